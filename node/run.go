package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// part is something that runs until its context ends.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// Run runs the node until ctx ends or a part fails, then stops the parts from
// the outside in: no new mail, no new attempts, no admin calls, then the
// cluster, so that the outcomes of what was under way still come into the log.
func (n *Node) Run(ctx context.Context) error {
	parts := []part{
		{"cluster", n.cluster.Run},
		{"admin", n.serveGRPC},
		{"http", n.serveHTTP},
		{"delivery", n.scheduler.Run},
		{"smtp", func(ctx context.Context) error { return n.smtp.Serve(ctx, n.listeners.smtp...) }},
	}
	running := make([]*runningPart, len(parts))
	failed := make(chan error, len(parts))
	for i, p := range parts {
		running[i] = startPart(context.WithoutCancel(ctx), p, failed)
	}
	n.log.Info("started", "smtp", n.SMTPAddr(), "admin", n.AdminAddr(), "http", n.HTTPAddr())

	var cause error
	select {
	case <-ctx.Done():
	case cause = <-failed:
	case cause = <-n.fatal:
	}
	n.draining.Store(true)
	n.health.Shutdown()
	errs := []error{cause}
	for i := len(running) - 1; i >= 0; i-- {
		if err := running[i].stop(); err != nil && !errors.Is(cause, err) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, n.state.Close(), n.listeners.close())
	err := errors.Join(errs...)
	n.log.Info("stopped", "error", err)
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

func (r *runningPart) stop() error {
	r.cancel()
	<-r.done
	return r.err
}

// stopCalls is how long a stop waits for admin calls under way.
const stopCalls = 2 * time.Second

func (n *Node) serveGRPC(ctx context.Context) error {
	listeners := append([]net.Listener{n.listeners.socket}, n.listeners.admin...)
	served := make(chan error, len(listeners))
	var group sync.WaitGroup
	for _, l := range listeners {
		group.Go(func() {
			if err := n.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				served <- err
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	n.stopGRPC()
	group.Wait()
	return err
}

// stopGRPC lets calls under way finish for a while. Streams between nodes never
// end by themselves.
func (n *Node) stopGRPC() {
	done := make(chan struct{})
	go func() {
		n.grpc.GracefulStop()
		close(done)
	}()
	timer := time.NewTimer(stopCalls)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		n.grpc.Stop()
		<-done
	}
}

func (n *Node) serveHTTP(ctx context.Context) error {
	server := &http.Server{Handler: n.routes(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(n.listeners.http) }()
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
