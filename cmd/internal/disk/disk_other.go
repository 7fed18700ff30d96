//go:build !linux

package disk

import (
	"errors"
	"os"
)

func shutdown(string) error { return errors.ErrUnsupported }

func freeze(string) error { return errors.ErrUnsupported }

func thaw(string) error { return errors.ErrUnsupported }

func fill(*os.File) error { return errors.ErrUnsupported }
