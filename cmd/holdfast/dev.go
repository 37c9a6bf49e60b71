package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"holdfast/node"
	"holdfast/test/sink"
)

// devPorts are the ports of the first node; the others follow. The demo mail
// server has one.
type devPorts struct{ smtp, raft, admin, http, sink int }

// contractPorts are the ports that CONTRACT.md promises.
func contractPorts() devPorts {
	return devPorts{smtp: 2525, raft: 7400, admin: 7500, http: 7600, sink: 2500}
}

// The demo mail server and the domain that it serves.
const (
	demoDestination = "demo"
	demoDomain      = "demo.test"
)

type devCommand struct {
	*app
	nodes       int
	dir         string
	destination string
	verbose     bool
	ports       devPorts

	printing sync.Mutex // a line at a time: nodes and demo server share stdout
}

func (a *app) devCommand() *cobra.Command {
	d := &devCommand{app: a, ports: contractPorts()}
	if a.devPorts != (devPorts{}) {
		d.ports = a.devPorts
	}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster in one process, to try it",
		Long: `Run a whole cluster in one process on loopback, with real raft, disk and SMTP,
and a demo mail server that takes the mail of the domain demo.test and shows it.
Ctrl-C ends it. The data is in a temporary folder and goes with it, unless --dir
keeps it.`,
		Example: `  holdfast dev
  holdfast dev --nodes 1 --dir ./data
  holdfast dev --destination 127.0.0.1:1025`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	cmd.Flags().IntVar(&d.nodes, "nodes", 3, "nodes, 1 or 3 to 5")
	cmd.Flags().StringVar(&d.dir, "dir", "", "keep the data in this folder")
	cmd.Flags().StringVar(&d.destination, "destination", "", "deliver demo.test to this HOST:PORT instead of the demo mail server")
	cmd.Flags().BoolVar(&d.verbose, "verbose", false, "show the nodes' own log")
	return cmd
}

func (d *devCommand) run(ctx context.Context) (err error) {
	if d.nodes < 1 || d.nodes == 2 || d.nodes > 5 {
		return usage("--nodes %d: want 1, or 3 to 5 (two stop where either one does)", d.nodes)
	}
	dir, remove, err := d.folder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	host := d.destination
	var demo *sink.Server
	if host == "" {
		demo, err = sink.Start(d.demoServer())
		if err != nil {
			return fmt.Errorf("demo mail server: %w; does another `holdfast dev` run? --destination HOST:PORT does without this server", err)
		}
		defer func() { err = errors.Join(err, demo.Close()) }()
		host = demo.Addr()
	}
	// The first node that fails, or can't be set up, ends the others.
	group, ctx := errgroup.WithContext(ctx)
	for i := range d.nodes {
		cfg := d.config(dir, i)
		group.Go(func() error { return serve(ctx, cfg, d.logger(cfg.Log)) })
	}
	group.Go(func() error { return d.introduce(ctx, dir, host) })
	if demo != nil {
		group.Go(func() error { return forget(ctx, demo) })
	}
	err = group.Wait()
	d.say("ended")
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// folder is where the data goes, and what to do with it at the end.
func (d *devCommand) folder() (string, func() error, error) {
	keep := func() error { return nil }
	if d.dir != "" {
		dir, err := filepath.Abs(d.dir)
		return dir, keep, err
	}
	dir, err := os.MkdirTemp("", "holdfast-dev-")
	if err != nil {
		return "", keep, err
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// config is the node file of node i, from 0.
func (d *devCommand) config(dir string, i int) node.Config {
	name := devName(i)
	cfg := node.DefaultConfig()
	cfg.NodeID = name
	cfg.DataDir = filepath.Join(dir, name)
	cfg.SMTP.Listen = []string{loopback(d.ports.smtp + i)}
	cfg.SMTP.Hostname = name + ".holdfast.test"
	cfg.Raft.Listen = loopback(d.ports.raft + i)
	cfg.Admin.Listen = []string{loopback(d.ports.admin + i)}
	cfg.HTTP.Listen = loopback(d.ports.http + i)
	cfg.Cluster.BootstrapExpect = d.nodes
	for j := range d.nodes {
		cfg.Cluster.Join = append(cfg.Cluster.Join, loopback(d.ports.admin+j))
	}
	cfg.Log = node.LogConfig{Level: "error", Format: "text"}
	cfg.Version = versionString()
	cfg.OpenAdmin = true
	return cfg
}

func devName(i int) string { return string(rune('a' + i)) }

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func (d *devCommand) logger(cfg node.LogConfig) *slog.Logger {
	if d.verbose {
		cfg.Level = "info"
	}
	return newLogger(d.err, cfg)
}

// say writes a line whole.
func (d *devCommand) say(format string, args ...any) {
	d.printing.Lock()
	defer d.printing.Unlock()
	fmt.Fprintf(d.out, format+"\n", args...)
}
