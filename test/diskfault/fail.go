package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"holdfast/test/faultfs"
	"holdfast/test/harness"
	"holdfast/test/load"
)

// provocation is how a node is brought to make the call that fails.
type provocation int

const (
	mail    provocation = iota // the load does it
	bulk                       // 100 MB of mail: segments and memtables fill
	term                       // the leader is paused until another one leads
	restart                    // the node is stopped and started, and gets bulk
	fresh                      // its folder is emptied and it is started
)

// failCase is an error at one kind of write.
type failCase struct {
	what    string
	pattern string
	ops     faultfs.Op
	times   int // 0 is from then on
	by      provocation
	inShort bool
}

func failCases() []failCase {
	const all = faultfs.Write | faultfs.Sync | faultfs.Create | faultfs.Rename
	return []failCase{
		// First those after which a node catches up from nothing: the longer the load
		// runs, the more that is.
		{"new log meta", "raft/wal/wal-meta.db", all, 0, fresh, false},
		{"new votes", "raft/stable.db", all, 0, fresh, false},
		{"generation", "state/CURRENT-GENERATION*", all, 0, fresh, true},
		{"state marker, new", "state/gen-*/marker.*", all, 0, fresh, false},
		{"node.json", "node.json*", all, 0, fresh, true},
		{"names in the data folder, one fsync", ".", faultfs.Sync, 1, fresh, false},
		{"log segment, write", "raft/wal/*.wal", faultfs.Write, 0, mail, true},
		{"log segment, one fsync", "raft/wal/*.wal", faultfs.Sync, 1, mail, true},
		{"log segment, create", "raft/wal/*.wal", faultfs.Create, 0, bulk, false},
		{"log meta, write", "raft/wal/wal-meta.db", faultfs.Write, 0, bulk, false},
		{"log meta, one fsync", "raft/wal/wal-meta.db", faultfs.Sync, 1, bulk, false},
		{"votes, write", "raft/stable.db", faultfs.Write, 0, term, true},
		{"votes, one fsync", "raft/stable.db", faultfs.Sync, 1, term, false},
		{"state table, write", "state/gen-*/*.sst", faultfs.Write, 0, bulk, true},
		{"state table, create", "state/gen-*/*.sst", faultfs.Create, 0, bulk, false},
		{"state table, one fsync", "state/gen-*/*.sst", faultfs.Sync, 1, bulk, false},
		{"state bodies, write", "state/gen-*/*.blob", faultfs.Write, 0, bulk, false},
		{"state manifest, write", "state/gen-*/MANIFEST-*", faultfs.Write, 0, bulk, false},
		{"state manifest, one fsync", "state/gen-*/MANIFEST-*", faultfs.Sync, 1, bulk, false},
		{"state marker", "state/gen-*/marker.*", all, 0, restart, false},
	}
}

// failRun lets each kind of write fail on one node. It must end with one line that
// says why, the others go on, and without the fault it comes back.
func failRun(ctx context.Context, o options, chance *rand.Rand, out io.Writer) (err error) {
	w, err := build(ctx, o, "fail", out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	l, err := w.load(ctx, o, "fail", nil)
	if err != nil {
		return err
	}
	errnos := []syscall.Errno{syscall.EIO, syscall.ENOSPC}
	for i, c := range failCases() {
		if o.short && !c.inShort || o.logStore == "boltdb" && strings.HasPrefix(c.pattern, "raft/wal/") {
			continue
		}
		for j, errno := range errnos {
			// A failed fsync is EIO; in short, every other case gets the other error.
			if c.times > 0 && errno != syscall.EIO || o.short && (i+j)%2 == 1 && c.times == 0 {
				continue
			}
			if err := w.fail(ctx, o, l, c, errno, chance); err != nil {
				_, stopErr := l.stop()
				return fmt.Errorf("fail: %s, %w: %w\n%s", c.what, errno, errors.Join(err, stopErr), w.cluster.Tails(8))
			}
		}
	}
	if _, err := l.stop(); err != nil {
		return err
	}
	if err := w.audit(ctx); err != nil {
		return err
	}
	return w.verdict()
}

func (w *world) fail(ctx context.Context, o options, l *running, c failCase, errno syscall.Errno, chance *rand.Rand) error {
	if err := w.waitAccepting(ctx, l, time.Now(), 30*time.Second, w.cluster.Nodes); err != nil {
		return err
	}
	leader, err := w.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	victim, role := leader, "leader"
	if c.by != term && chance.IntN(2) == 0 {
		victim, role = w.others(leader)[chance.IntN(2)], "follower"
	}
	w.Say("%s, %v, on node %s (%s)", c.what, errno, victim.Name, role)
	if c.by == fresh || c.by == restart {
		if err := victim.Kill(); err != nil {
			return err
		}
	}
	if c.by == fresh {
		if err := empty(w.mount(victim.Name)); err != nil {
			return err
		}
	}
	since := w.outputNow(victim)
	fault, err := w.disks[victim.Name].Inject(faultfs.Fault{Pattern: c.pattern, Ops: c.ops, Times: c.times, Errno: errno})
	if err != nil {
		return err
	}
	defer fault.Lift()
	if err := w.provoke(ctx, o, c.by, victim, fault); err != nil {
		return err
	}
	select {
	case <-fault.Hit():
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(30 * time.Second):
		return fmt.Errorf("node %s never made such a call", victim.Name)
	}
	hit := time.Now()
	if !w.checkEnd(ctx, victim, since, 15*time.Second) {
		// It goes on as if nothing had failed: end it, so that the run can.
		if err := victim.Kill(); err != nil {
			return err
		}
	}
	if err := w.waitAccepting(ctx, l, hit, 30*time.Second, w.others(victim)); err != nil {
		return err
	}
	w.Say("the others accept %s after the first failed call", time.Since(hit).Round(time.Millisecond))
	fault.Lift()
	return w.restart(ctx, victim)
}

func (w *world) provoke(ctx context.Context, o options, by provocation, victim *harness.Node, fault *faultfs.Injected) error {
	switch by {
	case bulk:
		return w.fill(ctx, o, victim, fault)
	case term:
		if err := victim.Pause(); err != nil {
			return err
		}
		// The others must have elected one before it hears of it.
		err := w.waitNewLeader(ctx, victim)
		return errors.Join(err, victim.Resume())
	case fresh:
		return victim.Start()
	case restart:
		if err := victim.Start(); err != nil {
			return err
		}
		return w.fill(ctx, o, victim, fault)
	}
	return nil
}

// fill sends 100 MB, or less where the fault has struck before.
func (w *world) fill(ctx context.Context, o options, victim *harness.Node, fault *faultfs.Injected) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	w.fills++
	l, err := w.load(ctx, o, fmt.Sprintf("fill%d", w.fills), func(c *load.Config) {
		c.Sessions, c.Count, c.Duration, c.Size, c.LongEvery = 6, 250, 0, 400<<10, 0
		c.Addresses = nil
		for _, n := range w.others(victim) {
			c.Addresses = append(c.Addresses, n.SMTP)
		}
	})
	if err != nil {
		return err
	}
	select {
	case <-fault.Hit():
	case <-l.done:
	}
	_, err = l.stop()
	return err
}

func (w *world) waitNewLeader(ctx context.Context, old *harness.Node) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	node := w.others(old)[0]
	return harness.Eventually(ctx, "another leader than "+old.Name, func(ctx context.Context) error {
		var status harness.Status
		if err := node.JSON(ctx, &status, "status"); err != nil {
			return err
		}
		if status.Leader == "" || status.Leader == old.Name {
			return fmt.Errorf("the leader is %q", status.Leader)
		}
		return nil
	})
}
