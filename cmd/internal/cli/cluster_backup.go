package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"

	"github.com/millstream-io/millstream/controller/backup"
	controllerconfig "github.com/millstream-io/millstream/controller/config"
	"github.com/millstream-io/millstream/controller/etcd"
	"github.com/millstream-io/millstream/controller/store"
)

// backupProgressEvery is how often it is said how far a backup is.
const backupProgressEvery = time.Second

// backupView is a backup, as JSON and YAML show it.
type backupView struct {
	File       string `json:"file"`
	ClusterID  string `json:"cluster_id"`
	Generation uint32 `json:"cluster_generation"`
	Revision   int64  `json:"revision"`
	Time       string `json:"time"`
	Version    string `json:"version"`
	Topics     int    `json:"topic_count"`
	Partitions int    `json:"partition_count"`
	Brokers    int    `json:"broker_count"`
}

func newBackupView(file string, b *backup.Backup) backupView {
	v := backupView{
		File: file, ClusterID: hex.EncodeToString(b.ClusterID), Generation: b.Generation, Revision: b.Revision,
		Time: b.Time.UTC().Format(time.RFC3339), Version: b.Version,
	}
	for _, e := range b.Entries {
		k, err := store.ParseKey(e.Key)
		switch {
		case err != nil: // of a later version
		case k.Kind == store.KindTopic:
			v.Topics++
		case k.Kind == store.KindPartition:
			v.Partitions++
		case k.Kind == store.KindBroker:
			v.Brokers++
		}
	}
	return v
}

func (v backupView) table() *table {
	t := &table{header: []string{"FILE", "CLUSTER", "GENERATION", "REVISION", "TIME", "TOPICS", "PARTITIONS", "BROKERS"}}
	t.add(v.File, v.ClusterID, v.Generation, v.Revision, v.Time, v.Topics, v.Partitions, v.Brokers)
	return t
}

func (p *Program) clusterBackup() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "backup", Short: "Write the metadata of the cluster to a file",
		Long: `Write the metadata of the cluster to a file: topics with their settings and
partitions, and brokers, all at one revision, but no records. Any broker makes
it while the cluster works. The file appears under its name when it was read
again and found to be whole; one that was there before is replaced then.

'cluster restore' makes new controllers of it.`,
		Example: "  millstream cluster backup --out cluster.backup",
		Args:    takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return misuse(c, "--out FILE is missing")
			}
			if err := p.checkOutput(c); err != nil {
				return err
			}
			b, err := p.backUp(c, out)
			if err != nil {
				return err
			}
			v := newBackupView(out, b)
			return p.show(c, v, v.table())
		},
	}
	c.Flags().StringVar(&out, "out", "", "`FILE` to write")
	return c
}

// backUp receives a backup and returns it when it is in its place.
func (p *Program) backUp(c *cobra.Command, name string) (_ *backup.Backup, err error) {
	conn, err := p.dial()
	if err != nil {
		return nil, err
	}
	defer closeQuietly(conn)
	f, err := renameio.NewPendingFile(name, renameio.WithPermissions(0o600), renameio.WithTempDir(filepath.Dir(name)))
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Cleanup())
		}
	}()
	stream, err := cluster(conn).BackupCluster(c.Context(), new(pb.BackupClusterRequest))
	if err != nil {
		return nil, err
	}
	said := time.Now()
	for bytes := 0; ; {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(m.GetData()); err != nil {
			return nil, fmt.Errorf("--out: %w", err)
		}
		if bytes += len(m.GetData()); time.Since(said) >= backupProgressEvery {
			said = time.Now()
			p.done("%d bytes so far", bytes)
		}
	}
	// What is on the disk is what counts.
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	b, err := backup.Read(f)
	if err != nil {
		return nil, err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	return b, syncDirOf(name)
}

// syncDirOf has the name of a file on the disk as well.
func syncDirOf(name string) error {
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// restoreView is what was restored, or would be, as JSON and YAML show it.
type restoreView struct {
	ControllerID int32      `json:"controller_id"`
	DataDir      string     `json:"data_dir"`
	Controllers  int        `json:"controller_count"`
	Generation   uint32     `json:"cluster_generation"`
	Revision     int64      `json:"revision"`
	Identity     string     `json:"identity"`
	DryRun       bool       `json:"dry_run"`
	Backup       backupView `json:"backup"`
}

func (p *Program) clusterRestore() *cobra.Command {
	cfg := controllerconfig.Default()
	var in string
	var generation uint32
	var dryRun bool
	c := &cobra.Command{
		Use: "restore", Short: "Make the data directory of a controller from a backup",
		Long: `Make the data directory of a controller from a backup, for a cluster whose
controllers are lost. It needs no server. Run it once for each controller, with
the same file, the same --peers and the settings that 'millstream controller' is
then started with; each must say the same IDENTITY. The controllers of before
must not run any more.

The cluster begins another generation: brokers register anew with the logs that
they have, and a partition is led again when all brokers have said whether they
hold it. See docs/operations/backup.md.`,
		Example: `  millstream cluster restore --in cluster.backup --id 1 --data-dir ./controller \
    --peers 1=10.0.0.1:9654,2=10.0.0.2:9654,3=10.0.0.3:9654`,
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if in == "" {
				return misuse(c, "--in FILE is missing")
			}
			if err := p.checkOutput(c); err != nil {
				return err
			}
			if _, err := p.load(c, &cfg); err != nil {
				return err
			}
			if cfg.Join {
				return misuse(c, "--join is for a controller that gets everything from others")
			}
			b, err := readBackup(in)
			if err != nil {
				return err
			}
			if generation == 0 {
				generation = b.Generation + 1
			}
			v, err := p.restore(b, &cfg, generation, dryRun)
			if err != nil {
				return err
			}
			v.Backup = newBackupView(in, b)
			t := &table{header: []string{"CONTROLLER", "DATA-DIR", "GENERATION", "REVISION", "IDENTITY"}}
			t.add(v.ControllerID, v.DataDir, v.Generation, v.Revision, v.Identity)
			return p.show(c, v, v.Backup.table(), t)
		},
	}
	registerSettings(c, &cfg)
	c.Flags().StringVar(&in, "in", "", "`FILE` that 'cluster backup' wrote")
	c.Flags().Uint32Var(&generation, "generation", 0, "`NUMBER` of the generation that begins, above all that were; 0: that of the backup and one; more if this backup was restored before")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "check the file and show what would be done, change nothing")
	return c
}

func readBackup(name string) (*backup.Backup, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("--in: %w", err)
	}
	b, err := backup.Read(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	return b, f.Close()
}

// restore makes the directory of a controller.
func (p *Program) restore(b *backup.Backup, cfg *controllerconfig.Config, generation uint32, dryRun bool) (restoreView, error) {
	r, err := b.Restore(generation)
	if err != nil {
		return restoreView{}, err
	}
	peers, err := cfg.PeerList()
	if err != nil {
		return restoreView{}, err
	}
	v := restoreView{
		ControllerID: cfg.ControllerID, DataDir: cfg.DataDir, Controllers: max(1, len(peers)),
		Generation: r.Generation, Revision: r.Revision, Identity: r.Identity, DryRun: dryRun,
	}
	if dryRun {
		return v, nil
	}
	o := etcd.Options{
		ID: cfg.ControllerID, Dir: cfg.DataDir, ListenPeers: cfg.PeerListenURL(),
		// What the store is told of its making is of no interest to people.
		Logger: slog.New(slog.NewTextHandler(p.Err, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	for _, peer := range peers {
		o.Peers = append(o.Peers, etcd.Peer{ID: peer.ID, URL: peer.URL})
	}
	return v, etcd.Restore(o, etcd.Contents{Entries: r.Entries, Revision: r.Revision, Identity: r.Identity})
}
