package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/test/harness"
	"holdfast/test/load"
)

// How long a fault lasts, and a flapping cut's times.
const (
	faultFor = 6 * time.Second
	pauseFor = 6 * time.Second
	flapFor  = 20 * time.Second
	flap     = 1500 * time.Millisecond
	// stuckFor is what no election on a busy machine takes: a survivor that
	// accepts nothing for so long waits for the node that is gone. How soon it
	// must accept is the kill run's to check.
	stuckFor = 5 * time.Second
)

// fault is a separation of a node under load.
type fault struct {
	*world
	separation
	loader      *load.Loader
	destination *destination

	node   *harness.Node
	slots  int // of the destinations that it owned
	beside []survivor
	inGrip int           // transactions held at the destination
	long   int           // of these, in the middle of their content
	times  int           // cuts
	asked  []load.Answer // while it was alone
	began  time.Time
	ended  time.Time // healed or resumed
}

// underLoad runs the loader and the fault side by side.
func (f *fault) underLoad(ctx context.Context) (*load.Report, error) {
	loadCtx, endLoad := context.WithCancel(ctx)
	defer endLoad()
	var report *load.Report
	var loadErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		report, loadErr = f.loader.Run(loadCtx)
	}()
	err := f.run(ctx)
	// Whatever happened, nothing stays held: the loader waits for its answers.
	f.destination.letGo()
	f.cluster.Network.Heal()
	if f.node != nil {
		err = errors.Join(err, f.node.Resume())
	}
	endLoad()
	<-done
	if report != nil {
		report.Answers = append(report.Answers, f.asked...)
	}
	return report, errors.Join(err, loadErr)
}

func (f *fault) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	if err := f.prepare(ctx); err != nil {
		return err
	}
	if err := f.lookAround(ctx); err != nil {
		return err
	}
	f.Say("node %s, the %s: %d slots, %d transactions held at the destination, %d of them long ones in mid-content; %d clients in DATA",
		f.node.Name, f.role, f.slots, f.inGrip, f.long, f.loader.InData(f.node.SMTP))
	f.began = time.Now()
	var err error
	switch {
	case f.cut == nil:
		err = f.pause(ctx)
	case f.flapping:
		err = f.flap(ctx)
	default:
		err = f.separate(ctx)
	}
	if err != nil {
		return err
	}
	if err := f.node.WaitReady(ctx); err != nil {
		return err
	}
	f.Say("node %s is ready again %s after the end of the fault", f.node.Name, time.Since(f.ended).Round(time.Millisecond))
	return harness.Eventually(ctx, "250 from node "+f.node.Name, func(context.Context) error {
		if f.loader.LastAccepted(f.node.SMTP).Before(f.ended.Add(time.Second)) {
			return errors.New("it accepted nothing since")
		}
		return nil
	})
}

// prepare chooses a node in the middle of its work and holds it there.
func (f *fault) prepare(ctx context.Context) error {
	err := harness.Eventually(ctx, "a "+f.role+" at work", func(ctx context.Context) (err error) {
		if f.node, err = f.choose(ctx, f.role, nil); err != nil {
			return err
		}
		o, err := ownedBy(ctx, f.node)
		if err != nil {
			return err
		}
		f.slots = o.slots
		if o.claims == 0 || f.destination.inFlight(f.node.Hostname()) == 0 {
			return fmt.Errorf("node %s has %d claims", f.node.Name, o.claims)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if f.hold != "" {
		f.destination.hold(f.node.Hostname(), f.hold == "content")
	}
	return harness.Eventually(ctx, "its deliveries and clients to be where they are wanted", func(context.Context) error {
		f.inGrip, f.long = f.destination.held()
		if f.hold != "" && f.inGrip < 2 || f.hold == "content" && f.long == 0 {
			return fmt.Errorf("%d transactions held, %d long", f.inGrip, f.long)
		}
		if inData := f.loader.InData(f.node.SMTP); f.inData && inData == 0 {
			return errors.New("no client is in DATA")
		}
		return nil
	})
}

// separate cuts the node off for a while. What it holds is let go before the
// cut heals: the destination's replies come to a node that is alone.
func (f *fault) separate(ctx context.Context) error {
	f.times = 1
	f.cut(f.cluster.Network, f.node.Name)
	if err := until(ctx, f.began.Add(silentAfter)); err != nil {
		return err
	}
	if err := f.ask(ctx, f.began.Add(faultFor-time.Second)); err != nil {
		return err
	}
	f.destination.letGo()
	if err := until(ctx, f.began.Add(faultFor)); err != nil {
		return err
	}
	// It isn't alone any more from the first connection on that heals: what it hears
	// then may well be that its messages are in the log.
	f.ended = time.Now()
	f.cluster.Network.Heal()
	return nil
}

// pause stops the process and lets it go on after its lease. The destination
// goes on reading a moment before.
func (f *fault) pause(ctx context.Context) error {
	f.times = 1
	if err := f.node.Pause(); err != nil {
		return err
	}
	if err := until(ctx, f.began.Add(pauseFor-500*time.Millisecond)); err != nil {
		return err
	}
	f.destination.letGo()
	if err := until(ctx, f.began.Add(pauseFor)); err != nil {
		return err
	}
	f.ended = time.Now()
	return f.node.Resume()
}

// ask sends to the node that is alone: the load's own clients may all wait for
// answers that can't be known yet.
func (f *fault) ask(ctx context.Context, end time.Time) error {
	asker, err := load.New(load.Config{
		Addresses: []string{f.node.SMTP}, Sessions: 2, Run: "ask", Duration: time.Until(end),
		Recipients: f.recipients(), Size: 2 << 10,
	})
	if err != nil {
		return err
	}
	report, err := asker.Run(ctx)
	if err != nil {
		return err
	}
	f.asked = report.Answers
	return nil
}

func (f *fault) flap(ctx context.Context) error {
	for at := f.began; at.Before(f.began.Add(flapFor)); at = at.Add(2 * flap) {
		f.times++
		f.cut(f.cluster.Network, f.node.Name)
		if err := until(ctx, at.Add(flap)); err != nil {
			return err
		}
		f.cluster.Network.Heal()
		if err := until(ctx, at.Add(2*flap)); err != nil {
			return err
		}
	}
	f.ended = time.Now()
	return nil
}

// checkSurvivors gives the longest time without a 250 at a node that was never
// separated.
func (f *fault) checkSurvivors(report *load.Report) time.Duration {
	longest := time.Duration(0)
	for _, n := range f.survivors(f.node) {
		gap, began := report.LongestGap(n.SMTP, f.began, f.ended)
		f.Say("node %s: longest time without a 250 %s, from %s on", n.Name, gap.Round(time.Millisecond), began.Sub(f.began).Round(time.Millisecond))
		longest = max(longest, gap)
	}
	if longest > stuckFor {
		f.Violation("a survivor didn't accept for %s", longest.Round(time.Millisecond))
	}
	return longest
}

// checkSilence wants 4xx and nothing else from a node that was alone, and no
// delivery. Of a paused node there is nothing to see until it goes on.
func (f *fault) checkSilence(report *load.Report) {
	if f.cut == nil || f.flapping {
		return
	}
	from := f.began.Add(silentAfter)
	accepted, deferred := 0, 0
	for _, a := range report.Answers {
		if a.Address != f.node.SMTP || a.At.Before(from) || a.At.After(f.ended) {
			continue
		}
		switch a.Outcome {
		case load.Accepted:
			accepted++
		case load.Deferred:
			deferred++
		}
	}
	f.Say("alone, node %s answered %d times 4xx and %d times 250", f.node.Name, deferred, accepted)
	if accepted > 0 || deferred == 0 {
		f.Violation("node %s, alone, answered %d times 250 and %d times 4xx", f.node.Name, accepted, deferred)
	}
	host := f.node.Hostname()
	if sent := f.destination.arrivedFrom(host, from, f.destination.letGoAt()); len(sent) > 0 {
		f.Violation("node %s, alone, delivered %d messages, the first %s at %s", f.node.Name, len(sent), sent[0].id, clock(sent[0].at))
	}
	nodes, begun := f.destination.nodes(), 0
	for _, t := range f.destination.Messages() {
		if nodes[t.Conn] == host && t.Started.After(from) && t.Started.Before(f.ended) {
			begun++
		}
	}
	if begun > 0 {
		f.Violation("node %s, alone, began %d transactions", f.node.Name, begun)
	}
}

// checkAttempts counts the attempts of the node that the fault cut short. Long
// contents that were held in their middle must all be among them: their last
// byte wasn't sent when the lease ended.
func (f *fault) checkAttempts() int {
	nodes, cut, finished := f.destination.nodes(), 0, 0
	for _, t := range f.destination.Messages() {
		if nodes[t.Conn] != f.node.Hostname() || t.Started.After(f.ended) || t.Done.Before(f.began) {
			continue
		}
		switch {
		case !t.Complete:
			cut++
		case f.hold == "content" && t.Started.Before(f.began) && t.Size >= longSize:
			finished++
		}
	}
	if finished > 0 {
		f.Violation("node %s sent %d contents to their end that were in their middle when it lost its lease", f.node.Name, finished)
	}
	if f.hold == "content" && cut < f.long {
		f.Violation("%d long contents were held in mid-content, but only %d attempts were cut", f.long, cut)
	}
	return cut
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }
