package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/node"
)

// stopPatience is how long an orderly stop may take. After that the process
// ends anyway: what is durable stays so, and a disk that hangs can't keep it.
const stopPatience = 30 * time.Second

func (a *app) serverCommand() *cobra.Command {
	var path string
	var check bool
	cmd := &cobra.Command{
		Use:   "server --config FILE",
		Short: "Run one node",
		Long: `Run one node of a cluster until SIGTERM or SIGINT, which end it in order; a
second signal ends it at once. --check reads the node file and the certificates
that it names, says what is wrong with them, and exits. SIGHUP reads the
certificates again. A node that is removed from the cluster ends by itself with
exit status 0: it is done, and whatever restarts it after a failure leaves it alone.`,
		Example: `  holdfast server --config /etc/holdfast/holdfast.toml --check
  holdfast server --config /etc/holdfast/holdfast.toml`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return usage("say which node file to use with --config FILE")
			}
			cfg, err := node.Load(path)
			if err != nil {
				return err
			}
			if check {
				if err := cfg.CheckCertificates(); err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
				_, err := fmt.Fprintf(a.out, "%s is valid: node %s\n", path, cfg.NodeID)
				return err
			}
			cfg.Version = versionString()
			cfg.Fatal = a.fatal
			cfg.Kill, cfg.Pause = a.kill, pauseProcess
			return serve(cmd.Context(), cfg, newLogger(a.err, cfg.Log))
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "node file")
	cmd.Flags().BoolVar(&check, "check", false, "check the node file and exit")
	return cmd
}

// fatal ends the process where it stands: after a failed write or fsync nothing
// that it would still say or do can be relied on.
func (a *app) fatal(err error) {
	line, status := lastWords(err)
	fmt.Fprintln(a.err, line)
	os.Exit(status)
}

// lastWords are what a node that ends for good says, and its exit status. One that
// was removed is done, as in etcd: whatever keeps the process (systemd's
// Restart=on-failure) is to leave it alone.
func lastWords(err error) (line string, status int) {
	if errors.Is(err, node.ErrRemoved) {
		return fmt.Sprintf("holdfast: %v", err), exitDone
	}
	return fmt.Sprintf("holdfast: the node can't go on: %v", err), exitFailed
}

// kill ends the process as kill -9 does, for a drill: nothing is flushed, handed
// over or said goodbye to. The status has systemd start it again.
func (a *app) kill() {
	fmt.Fprintln(a.err, "holdfast: the node ends here: an operator's drill kills it")
	os.Exit(1)
}

// serve runs one node until ctx ends or the node fails.
func serve(ctx context.Context, cfg node.Config, logger *slog.Logger) error {
	// Before the state is opened, which takes a while: whoever starts a node and has it
	// reload at once would else end it, and systemd takes that for a clean exit.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	n, err := node.New(cfg, logger)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	for running := true; running; {
		select {
		case err := <-ended:
			return err
		case <-hangup:
			if err := n.Reload(); err != nil {
				logger.Error("certificates not reloaded: the old ones stay in use", "node", cfg.NodeID, "error", err)
			} else {
				logger.Info("certificates reloaded", "node", cfg.NodeID)
			}
		case <-ctx.Done():
			running = false
		}
	}
	logger.Info("stopping", "node", cfg.NodeID)
	select {
	case err := <-ended:
		return err
	case <-time.After(stopPatience):
		return fmt.Errorf("node %s did not stop within %v and was ended", cfg.NodeID, stopPatience)
	}
}

func newLogger(w io.Writer, cfg node.LogConfig) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.SlogLevel(), ReplaceAttr: inSeconds}
	if cfg.Format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// inSeconds writes durations as numbers of seconds: JSON would else have bare
// nanoseconds.
func inSeconds(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.Float64Value(a.Value.Duration().Seconds())
	}
	return a
}
