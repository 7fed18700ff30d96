package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/vfs"
)

// knownControllers is where the controllers were when a broker last heard of it.
// It is kept in the file `controllers` as JSON in a checkpoint.
type knownControllers struct {
	// Configured are those that the broker was started with.
	Configured []string `json:"configured"`
	// Named are those that controllers named.
	Named []string `json:"named"`
}

func controllersPath(dir string) string { return filepath.Join(dir, "controllers") }

// KnownControllers returns where the controllers were when a broker last heard
// of it that used the directory and was started with the same ones; none: it was
// started with others, which is to say that what was known counts no more, or
// nothing is known. It may be called before there is a broker.
func KnownControllers(fsys vfs.FS, dir string, configured []string) ([]string, error) {
	b, err := checkpoint.Read(fsys, controllersPath(dir))
	if errors.Is(err, checkpoint.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read where the controllers are: %w", err)
	}
	var k knownControllers
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, fmt.Errorf("read where the controllers are: %w", err)
	}
	if !slices.Equal(k.Configured, configured) {
		return nil, nil
	}
	return k.Named, nil
}

// KeepControllers writes down where the controllers are, for the next start. It
// does not wait for the disk.
func (b *Broker) KeepControllers(configured, named []string) {
	b.errand.add(func() {
		text, err := json.Marshal(knownControllers{configured, named})
		if err == nil {
			err = checkpoint.Write(b.opts.FS, controllersPath(b.opts.DataDir), text, true)
		}
		if err != nil {
			b.logger.Warn("where the controllers are is not kept for the next start", "err", err)
		}
	})
}
