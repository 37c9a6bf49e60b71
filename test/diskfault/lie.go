package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"holdfast/test/faultfs"
)

// lieRun lets one node's fsync report success and do nothing, and then takes the
// power from that node: it has forgotten entries, and perhaps a vote, that it
// told the others it had. A majority still has them, so no mail may be lost. The
// node itself can't know; what it does is printed.
func lieRun(ctx context.Context, o options, _ *rand.Rand, out io.Writer) (err error) {
	w, err := build(ctx, o, "lie", out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	for _, leads := range []bool{false, true} {
		if err := w.lie(ctx, o, leads); err != nil {
			return fmt.Errorf("lie: %w\n%s", err, w.cluster.Tails(8))
		}
	}
	if err := w.audit(ctx); err != nil {
		return err
	}
	return w.verdict()
}

func (w *world) lie(ctx context.Context, o options, leads bool) (err error) {
	leader, err := w.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	liar, role := leader, "leader"
	if !leads {
		liar, role = w.others(leader)[0], "follower"
	}
	l, err := w.load(ctx, o, "lie"+role, nil)
	if err != nil {
		return err
	}
	defer func() {
		_, stopErr := l.stop()
		err = errors.Join(err, stopErr)
	}()
	if err := w.waitAccepting(ctx, l, time.Now(), 30*time.Second, w.cluster.Nodes); err != nil {
		return err
	}
	lies, err := w.disks[liar.Name].Inject(faultfs.Fault{Pattern: "**", Ops: faultfs.Sync, Lie: true})
	if err != nil {
		return err
	}
	before := l.Accepted()
	if err := until(ctx, time.Now().Add(5*time.Second)); err != nil {
		return err
	}
	hits, accepted, cut, since := lies.Hits(), l.Accepted()-before, time.Now(), w.outputNow(liar)
	if err := errors.Join(liar.Kill(), w.disks[liar.Name].PowerCut(nil)); err != nil {
		return err
	}
	if hits == 0 || accepted == 0 {
		return fmt.Errorf("node %s lied %d times while %d messages were accepted: this proves nothing", liar.Name, hits, accepted)
	}
	w.Say("node %s, a %s, lied about %d fsyncs while %d messages were accepted, and lost its power", liar.Name, role, hits, accepted)
	if err := w.waitAccepting(ctx, l, cut, 30*time.Second, w.others(liar)); err != nil {
		return err
	}
	if err := w.restart(ctx, liar); err != nil {
		if liar.Running() {
			return err
		}
		if !w.checkEnd(ctx, liar, since, time.Second) {
			return err
		}
		if err := empty(w.mount(liar.Name)); err != nil {
			return err
		}
		w.Say("its folder was emptied, as it asks")
		return w.restart(ctx, liar)
	}
	w.Say("it can't know what it lost: it started with an older log and caught up")
	return nil
}
