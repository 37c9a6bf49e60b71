package main

import (
	"context"
	"errors"
	"fmt"
	"net/smtp"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// world is the cluster, the mail server that is up, and the mail that flows to it.
type world struct {
	options options
	cluster *harness.Cluster
	server  *sink.Server

	stopFlow context.CancelFunc // nil while no mail flows
	flowed   chan flowed
}

type flowed struct {
	report *load.Report
	err    error
}

func start(ctx context.Context, o options) (w *world, err error) {
	w = &world{options: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.server, err = sink.Start(sink.Config{Recording: sink.RecordCount}); err != nil {
		return nil, err
	}
	if w.cluster, err = harness.Start(ctx, harness.Config{Binary: o.Binary, Dir: o.Dir, Nodes: 3, Direct: true, LogLevel: "warn"}); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"destination", "set", "up", "--host", w.server.Addr(), "--tls", "none"},
		{"domain", "set", "up.test", "--destination", "up", "--verify", "off"},
		{"destination", "set", "away", "--host", "127.0.0.1:1", "--tls", "none"},
		{"domain", "set", "away.test", "--destination", "away", "--verify", "off"},
	} {
		if _, err := w.cluster.Nodes[0].CLI(ctx, args...); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *world) close() error {
	var errs []error
	if w.stopFlow != nil {
		_, err := w.stop()
		errs = append(errs, err)
	}
	if w.cluster != nil {
		errs = append(errs, w.cluster.Close())
	}
	if w.server != nil {
		errs = append(errs, w.server.Close())
	}
	return errors.Join(errs...)
}

// fill has the recipients accepted, many a message, over all nodes.
func (w *world) fill(ctx context.Context) error {
	o := w.options
	messages := o.recipients / o.each
	group, ctx := errgroup.WithContext(ctx)
	const sessions = 9
	for s := range sessions {
		group.Go(func() error {
			return w.send(ctx, w.cluster.Nodes[s%len(w.cluster.Nodes)].SMTP, s, sessions, messages)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var count harness.Count
	return harness.Eventually(ctx, "all of them wait", func(context.Context) error {
		err := w.cluster.Nodes[0].JSON(context.WithoutCancel(ctx), &count, "queue", "count")
		if err == nil && count.Pending != messages*o.each {
			err = fmt.Errorf("%d are pending, want %d", count.Pending, messages*o.each)
		}
		return err
	})
}

// send sends every step-th message from the first one on.
func (w *world) send(ctx context.Context, address string, first, step, messages int) (err error) {
	client, err := smtp.Dial(address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	for n := first; n < messages && ctx.Err() == nil; n += step {
		if err := client.Mail("bulk@client.test"); err != nil {
			return err
		}
		for r := range w.options.each {
			if err := client.Rcpt(fmt.Sprintf("user%d@away.test", n*w.options.each+r)); err != nil {
				return err
			}
		}
		body, err := client.Data()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(body, "Subject: bulk %d\r\n\r\nHello.\r\n", n); err != nil {
			return err
		}
		if err := body.Close(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// flow sends mail to the destination that is up until stop.
func (w *world) flow(ctx context.Context) error {
	loader, err := load.New(load.Config{
		Addresses: w.cluster.SMTP(), Roam: true, Sessions: w.options.sessions, Run: "flow", Duration: time.Hour,
		Recipients: []string{"user@up.test"}, Size: 2 << 10, PerConnection: 100,
	})
	if err != nil {
		return err
	}
	ctx, w.stopFlow = context.WithCancel(ctx)
	w.flowed = make(chan flowed, 1)
	go func() {
		report, err := loader.Run(ctx)
		w.flowed <- flowed{report, err}
	}()
	return nil
}

func (w *world) stop() (*load.Report, error) {
	w.stopFlow()
	w.stopFlow = nil
	done := <-w.flowed
	return done.report, done.err
}
