// Command search measures how long searches of the log take. It fills a state
// with messages through Apply, by the events that real ones cause, into a folder
// that it uses again; then it serves that state over gRPC as a node does, asks
// for the first page and the tenth of each search, and prints the times.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/admin"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/program"
)

type options struct {
	dir      string
	messages int
}

func main() { program.Main("search", parse, run) }

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("search", flag.ContinueOnError)
	flags.IntVar(&o.messages, "messages", 100_000, "messages in the store; each has two to five rows of history")
	flags.StringVar(&o.dir, "dir", "build/search", "folder of the store; one with enough messages is used as it is")
	if err := program.Parse(flags, args); err != nil {
		return o, err
	}
	if o.messages < 1 {
		return o, errors.New("-messages must be at least 1")
	}
	return o, nil
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	var fatal error
	state, err := fsm.Open(fsm.Config{
		Dir: filepath.Join(dir, "state"), Node: "a", Logger: slog.New(slog.DiscardHandler),
		Metrics: prometheus.NewRegistry(), Fatal: func(err error) { fatal = err },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fatal, state.Close()) }()
	f := newFiller(state)
	began := time.Now()
	rows, err := f.fill(ctx, o.messages)
	if err != nil {
		return err
	}
	size, err := sizeOf(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d messages, %d rows of history, %d MB on disk; prepared in %v\n",
		o.messages, rows, size>>20, time.Since(began).Round(time.Second))
	return serve(ctx, state, func(log pb.LogServiceClient) error {
		return measure(ctx, out, log, f.searches())
	})
}

func sizeOf(dir string) (total int64, err error) {
	return total, filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
}

// serve answers on a socket, as a node does.
func serve(ctx context.Context, state *fsm.State, use func(pb.LogServiceClient) error) (err error) {
	dir, err := os.MkdirTemp("", "hfs")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	listener, err := admin.ListenSocket(dir)
	if err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	access := admin.NewAccess(admin.AccessConfig{State: state, Logger: quiet, Metrics: prometheus.NewRegistry(), Now: time.Now})
	server := grpc.NewServer(access.Interceptors()...)
	admin.Register(server, admin.Config{Node: "a", State: state, Cluster: alone{}, Now: time.Now, Logger: quiet})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		err = errors.Join(err, <-served)
	}()
	conn, err := grpc.NewClient("unix:"+filepath.Join(dir, admin.SocketName), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return use(pb.NewLogServiceClient(conn))
}

// alone is a cluster that only reads: its methods but Leased aren't called.
type alone struct{ admin.Cluster }

func (alone) Leased() bool { return true }
