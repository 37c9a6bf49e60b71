package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// part is something that runs until its context ends.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// stopContent is how long a stop lets clients finish the content under way. The
// delivery stops meanwhile; with what follows it stays below the patience of
// `holdfast server`.
const stopContent = 8 * time.Second

// Run runs the node until ctx ends or a part fails, then stops the parts from
// the outside in: first, side by side, no new mail and no new attempts; then the
// cluster, so that the outcomes of what was under way still come into the log;
// last the calls of other nodes, which the cluster needs to hand itself over.
func (n *Node) Run(ctx context.Context) error {
	stages := [][]part{
		{{"admin", n.serveGRPC}},
		{{"cluster", n.cluster.Run}},
		{
			{"http", n.serveHTTP},
			{"service", n.followService},
			{"certificates", n.certificates.watch},
			{"delivery", n.scheduler.Run},
			{"upkeep", n.keeper.Run},
			{"verification", n.verification.Run},
			{"flow", n.flow.Run},
			{"smtp", func(ctx context.Context) error { return n.smtp.Serve(ctx, n.listeners.smtp...) }},
		},
	}
	var running [][]*runningPart
	failed := make(chan error, 16) // more than there are parts
	for _, stage := range stages {
		var parts []*runningPart
		for _, p := range stage {
			parts = append(parts, startPart(context.WithoutCancel(ctx), p, failed))
		}
		running = append(running, parts)
	}
	n.log.Info("started", "smtp", n.SMTPAddr(), "admin", n.AdminAddr(), "http", n.HTTPAddr())

	var cause error
	select {
	case <-ctx.Done():
	case cause = <-failed:
	case cause = <-n.fatal:
	}
	n.draining.Store(true)
	for _, h := range n.health {
		h.Shutdown()
	}
	if cause == nil {
		n.leave(context.WithoutCancel(ctx))
	}
	errs := []error{cause}
	for _, parts := range slices.Backward(running) {
		for _, p := range parts {
			p.cancel()
		}
		for _, p := range parts {
			if err := p.wait(); err != nil && !errors.Is(cause, err) {
				errs = append(errs, err)
			}
		}
	}
	n.access.Close()
	errs = append(errs, n.state.Close(), n.listeners.close(), n.answered.close())
	n.doors.close()
	err := errors.Join(errs...)
	if err != nil {
		n.log.Error("stopped", "error", err)
	} else {
		n.log.Info("stopped")
	}
	return err
}

type runningPart struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func startPart(ctx context.Context, p part, failed chan<- error) *runningPart {
	ctx, cancel := context.WithCancel(ctx)
	r := &runningPart{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		if err := p.run(ctx); err != nil {
			r.err = fmt.Errorf("%s: %w", p.name, err)
			failed <- r.err
		}
	}()
	return r
}

func (r *runningPart) wait() error {
	<-r.done
	return r.err
}

// stopCalls is how long a stop waits for admin calls under way.
const stopCalls = 2 * time.Second

func (n *Node) serveGRPC(ctx context.Context) error {
	served := make(chan error, 1+len(n.listeners.admin))
	var group sync.WaitGroup
	serve := func(server *grpc.Server, l net.Listener) {
		group.Go(func() {
			if err := server.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				served <- err
			}
		})
	}
	serve(n.admins, n.listeners.socket)
	for _, l := range n.listeners.admin {
		if n.certificates.nodes != nil {
			l = n.doors.grpc.Listener(l)
		}
		serve(n.peers, l)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	stopServer(n.admins)
	// Streams between nodes never end by themselves.
	n.peers.Stop()
	group.Wait()
	return err
}

// stopServer lets calls under way finish for a while.
func stopServer(server *grpc.Server) {
	done := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(done)
	}()
	timer := time.NewTimer(stopCalls)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		server.Stop()
		<-done
	}
}

// idleHTTP is how long a connection may wait for its next request: longer than
// between two scrapes.
const idleHTTP = 2 * time.Minute

func (n *Node) serveHTTP(ctx context.Context) error {
	server := &http.Server{Handler: n.routes(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idleHTTP}
	served := make(chan error, 1)
	go func() { served <- server.Serve(n.doors.http.Listener(n.listeners.http)) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopCalls)
	defer cancel()
	err := server.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	// ErrServerClosed, since Shutdown or Close came before.
	return errors.Join(err, ignore(<-served, http.ErrServerClosed))
}

func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}
