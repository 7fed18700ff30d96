package cli

import (
	"runtime"

	"github.com/spf13/cobra"
)

// versionView is the version as JSON and YAML show it.
type versionView struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func (p *Program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version of this program", Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			v := versionView{p.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH}
			t := &table{header: []string{"VERSION", "GO", "OS", "ARCH"}}
			t.add(v.Version, v.Go, v.OS, v.Arch)
			return p.show(c, v, t)
		},
	}
}
