package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"holdfast/test/load"
)

// waitingShare: one message of so many is for the destination that is down.
const waitingShare = 20

// senderUp is the domain of senders to destinations that are up.
const senderUp = "up.load.test"

// traffic is clients that send without a pause, through whichever node takes
// their mail.
type traffic struct {
	loaders []*load.Loader
	cancel  context.CancelFunc
	running sync.WaitGroup
	errs    []error // of each loader, once it has ended
}

// open begins the window of the first chapter with traffic.
func (w *world) open(ctx context.Context, suffix string) error {
	w.from = time.Now()
	if _, err := w.meter(ctx); err != nil {
		return err
	}
	return w.startTraffic(ctx, suffix)
}

// startTraffic names its runs so that ids are unique over the story.
func (w *world) startTraffic(ctx context.Context, suffix string) error {
	up := load.Config{Sessions: 100, Run: "up" + suffix, Sender: senderUp, Recipients: users(w.domains), Admit: load.Pace(w.offer - w.offer/waitingShare)}
	late := load.Config{Sessions: 10, Run: "late" + suffix, Recipients: users([]string{lateDomain}), Admit: load.Pace(w.offer / waitingShare)}
	t := &traffic{}
	for _, config := range []load.Config{up, late} {
		config.Addresses, config.Roam, config.Duration = w.cluster.SMTP(), true, limit
		config.Size, config.LongEvery, config.LongSize, config.PerConnection = 1<<10, 500, 600<<10, 50
		loader, err := load.New(config)
		if err != nil {
			return err
		}
		t.loaders = append(t.loaders, loader)
	}
	t.start(ctx)
	w.traffic = t
	return nil
}

func users(domains []string) []string {
	var all []string
	for _, domain := range domains {
		all = append(all, "user@"+domain)
	}
	return all
}

func (t *traffic) start(ctx context.Context) {
	ctx, t.cancel = context.WithCancel(ctx)
	t.errs = make([]error, len(t.loaders))
	for i, loader := range t.loaders {
		t.running.Go(func() { _, t.errs[i] = loader.Run(ctx) })
	}
}

// end waits for the messages under way; doing it again changes nothing.
func (t *traffic) end() error {
	t.cancel()
	t.running.Wait()
	return errors.Join(t.errs...)
}

func (t *traffic) answers() []load.Answer {
	var all []load.Answer
	for _, loader := range t.loaders {
		all = append(all, loader.Answers()...)
	}
	return all
}

// follow has the clients go to the nodes that there are now, as after a change of
// the MX records.
func (w *world) follow() {
	for _, loader := range w.traffic.loaders {
		loader.SetAddresses(w.cluster.SMTP())
	}
}

// endTraffic keeps the answers.
func (w *world) endTraffic() error {
	t := w.traffic
	w.traffic = nil
	err := t.end()
	w.earlier = append(w.earlier, t.answers()...)
	return err
}

// answers are all of the story so far, by their times.
func (w *world) answers() []load.Answer {
	all := slices.Clone(w.earlier)
	if w.traffic != nil {
		all = append(all, w.traffic.answers()...)
	}
	slices.SortFunc(all, func(x, y load.Answer) int { return x.At.Compare(y.At) })
	return all
}

// between are the answers that came in a window of time.
func between(answers []load.Answer, from, to time.Time) []load.Answer {
	at := func(t time.Time) int {
		i, _ := slices.BinarySearchFunc(answers, t, func(a load.Answer, t time.Time) int { return a.At.Compare(t) })
		return i
	}
	return answers[at(from):at(to)]
}
