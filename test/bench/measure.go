package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"holdfast/test/load"
)

// figure is one measurement of one system at one message size.
type figure struct {
	System    string        `json:"system"`
	Size      int           `json:"size"`
	Round     int           `json:"round"`
	Messages  int           `json:"messages"`
	Accepted  float64       `json:"acceptedPerSecond"`
	Delivered float64       `json:"deliveredPerSecond"`
	Through   float64       `json:"throughPerSecond"`
	P50       time.Duration `json:"p50"`
	P99       time.Duration `json:"p99"`
	Max       time.Duration `json:"max"`
	Deferred  int           `json:"deferred"`
}

// running is a system under test.
type running struct {
	addresses []string
	stop      func() error
}

// system knows how to start one; each start gets a fresh folder.
type system struct {
	name  string
	start func(ctx context.Context, dir string) (*running, error)
}

// bench is what all measurements share.
type bench struct {
	options     options
	destination *destination
}

// measure starts a system, warms it up, and takes one figure for each size.
func (b *bench) measure(ctx context.Context, s system, round int) (figures []figure, err error) {
	dir := filepath.Join(b.options.Dir, fmt.Sprintf("%s-%d", s.name, round))
	r, err := s.start(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	if _, err := b.flood(ctx, s, r, "warm", b.options.sizes[0], time.Second); err != nil {
		return nil, err
	}
	for _, size := range b.options.sizes {
		f, err := b.flood(ctx, s, r, fmt.Sprintf("r%ds%d", round, size), size, b.options.duration)
		if err != nil {
			return nil, err
		}
		flow, err := b.flow(ctx, s, r, fmt.Sprintf("w%ds%d", round, size), size, b.options.duration)
		if err != nil {
			return nil, err
		}
		f.Round, f.Through = round, flow.Delivered
		figures = append(figures, f)
	}
	return figures, nil
}

// settled is the share of the accepted messages whose arrival ends the time over
// which deliveries are counted. All must arrive, but the last few would stretch
// the time of a short measurement: a session or two that Postfix holds up by
// its in_flow_delay of a second, or a retry.
const settled = 0.98

// flood sends as fast as the sessions can, then waits until every accepted
// message has come to the destination: a queue that builds up lowers the rate
// of delivery.
func (b *bench) flood(ctx context.Context, s system, r *running, run string, size int, d time.Duration) (figure, error) {
	before, err := b.destination.received(0)
	if err != nil {
		return figure{}, err
	}
	report, err := b.send(ctx, r, load.Config{Run: run, Duration: d, Size: size})
	if err != nil {
		return figure{}, err
	}
	return b.arrival(ctx, s, size, before, report)
}

// flow measures the whole way: only so many messages are on it at once, so that
// what is accepted is delivered at the same rate.
func (b *bench) flow(ctx context.Context, s system, r *running, run string, size int, d time.Duration) (figure, error) {
	before, err := b.destination.received(0)
	if err != nil {
		return figure{}, err
	}
	w := newWindow(windowPerSession*b.options.sessions, b.destination)
	following, stop := context.WithCancel(ctx)
	followed := make(chan error, 1)
	go func() { followed <- w.follow(following, before.Messages) }()
	report, err := b.send(ctx, r, load.Config{Run: run, Duration: d, Size: size, Admit: w.admit})
	stop()
	if err := errors.Join(err, <-followed); err != nil {
		return figure{}, err
	}
	return b.arrival(ctx, s, size, before, report)
}

// windowPerSession is how many messages are on their way at once, for each session.
const windowPerSession = 4

func (b *bench) send(ctx context.Context, r *running, config load.Config) (*load.Report, error) {
	config.Addresses, config.Sessions = r.addresses, b.options.sessions
	config.Sender, config.Recipients = "load.test", []string{"user@" + domain}
	loader, err := load.New(config)
	if err != nil {
		return nil, err
	}
	return loader.Run(ctx)
}

// arrival waits until all that was accepted has come.
func (b *bench) arrival(ctx context.Context, s system, size int, before received, report *load.Report) (figure, error) {
	accepted := report.Count(load.Accepted)
	if accepted == 0 {
		return figure{}, fmt.Errorf("%s accepted nothing: %s", s.name, firstAnswer(report))
	}
	drain, cancel := context.WithTimeout(ctx, b.options.drain)
	defer cancel()
	counted := max(1, int(settled*float64(accepted)))
	now, err := b.destination.waitFor(drain, before, accepted, counted)
	if err != nil {
		return figure{}, fmt.Errorf("%s at %d bytes: %w", s.name, size, err)
	}
	if extra := now.Messages - before.Messages - accepted; extra > report.Count(load.Unknown) {
		return figure{}, fmt.Errorf("%s delivered %d messages more than it accepted", s.name, extra)
	}
	return figure{
		System: s.name, Size: size, Messages: accepted,
		Accepted:  report.Rate(),
		Delivered: float64(counted) / now.Arrival.Sub(report.Began).Seconds(),
		P50:       report.Latency(0.5), P99: report.Latency(0.99), Max: report.Latency(1),
		Deferred: report.Count(load.Deferred),
	}, nil
}

func firstAnswer(report *load.Report) string {
	if len(report.Answers) == 0 {
		return fmt.Sprintf("%d connections failed", report.ConnectionsRefused)
	}
	return report.Answers[0].Reply
}
