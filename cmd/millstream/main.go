// Command millstream is Millstream: its server roles and its command line.
package main

import (
	"os"

	"github.com/millstream-io/millstream/cmd/internal/cli"
)

// version is set by the linker.
var version = "unknown"

func main() { os.Exit(cli.Main(version)) }
