package delivery

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/race"
)

// greylister is a mail server on pipes that defers every recipient.
type greylister struct {
	mu    sync.Mutex // guards tries
	tries []time.Time
	conns sync.WaitGroup
}

func (g *greylister) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	g.conns.Go(func() { g.serve(theirs) })
	return ours, nil
}

func (g *greylister) serve(conn net.Conn) {
	defer conn.Close()
	say := func(line string) { fmt.Fprintf(conn, "%s\r\n", line) }
	say("220 grey.test")
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		switch verb, _, _ := strings.Cut(lines.Text(), " "); verb {
		case "RCPT":
			g.mu.Lock()
			g.tries = append(g.tries, time.Now())
			g.mu.Unlock()
			say("450 4.7.1 come back later")
		case "QUIT":
			say("221 goodbye")
			return
		default:
			say("250 ok")
		}
	}
}

// slow are times of a Scheduler that works for weeks.
var slow = Timing{Reconcile: time.Hour, Rescan: time.Hour, Expire: 20 * time.Minute, Idle: 5 * time.Hour}

// weeks is a world in synctest's time whose one destination defers everything.
func weeks(t *testing.T, policy string) (*world, *greylister) {
	w := newWorld(t, "a")
	w.ctx, w.timing = t.Context(), slow
	grey := &greylister{}
	w.dial = grey.dial
	w.destination("dest", 2, "192.0.2.1:25")
	w.follow("example.test", "dest", policy)
	return w, grey
}

// pass lets time pass; in synctest it takes none.
func pass(d time.Duration) { <-time.NewTimer(d).C }

// awaitEnd lets time pass until a recipient has ended, and says at which age.
func (w *world) awaitEnd(id relay.MessageID) time.Duration {
	for w.recipient(id, 0).State == pb.RecipientState_RECIPIENT_STATE_PENDING {
		pass(time.Hour)
	}
	synctest.Wait()
	return time.Unix(0, w.recipient(id, 0).EndedAt).Sub(id.Time())
}

// stop ends the Scheduler, and with it the mail server's connections.
func (g *greylister) stop(w *world) {
	w.nodes["a"].stop()
	g.conns.Wait()
}

func (g *greylister) ages(id relay.MessageID) []time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	var ages []time.Duration
	for _, try := range g.tries {
		ages = append(ages, try.Sub(id.Time()))
	}
	return ages
}

// The Scheduler makes the attempts that each shipped policy plans, give or take
// the jitter, and returns the message when the policy says so.
func TestSchedulerFollowsPolicies(t *testing.T) {
	for _, policy := range relay.ShippedPolicies() {
		t.Run(policy.Name, func(t *testing.T) {
			if race.Enabled && policy.Retention > 5*24*time.Hour {
				t.Skip("a month of virtual time: without the race detector")
			}
			synctest.Test(t, func(t *testing.T) {
				w, grey := weeks(t, policy.Name)
				id := w.accept(testSender, "user@example.test")
				w.runAll()
				end := w.awaitEnd(id)
				grey.stop(w)
				checkAttempts(t, policy, grey.ages(id), end)
				if r := w.recipient(id, 0); r.State != pb.RecipientState_RECIPIENT_STATE_BOUNCED || int(r.Attempts) != len(grey.tries) {
					t.Errorf("%s after %d attempts, %d were made", r.State, r.Attempts, len(grey.tries))
				}
			})
		})
	}
}

func checkAttempts(t *testing.T, policy relay.Policy, made []time.Duration, end time.Duration) {
	t.Helper()
	planned := len(policy.Times())
	if n := len(made); n < planned*95/100 || n > planned*105/100+1 || policy.MaxAttempts > 0 && n != policy.MaxAttempts {
		t.Errorf("%d attempts, %d are planned", n, planned)
	}
	last := made[len(made)-1]
	if policy.MaxAttempts == 0 && (last < policy.Retention || last > policy.Retention+time.Minute) {
		t.Errorf("the last attempt is at %s, the retention is %s", last, policy.Retention)
	}
	if end < last || end > last+time.Minute {
		t.Errorf("returned at %s, the last attempt was at %s", end, last)
	}
	t.Logf("%d attempts, returned after %s", len(made), end)
}

// A longer retention saves what is queued already; a shorter one returns it. The
// interval changes with the next attempt.
func TestPolicyChangesWhileMailWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, grey := weeks(t, "stepped")
		saved := w.accept(testSender, "user@example.test")
		w.runAll()
		pass(95 * time.Hour)
		w.follow("example.test", "dest", "month")
		pass(5 * 24 * time.Hour)
		if r := w.recipient(saved, 0); r.State != pb.RecipientState_RECIPIENT_STATE_PENDING {
			t.Fatalf("%s after 9 days, its policy says 30", r.State)
		}
		ages := grey.ages(saved)
		at, _ := slices.BinarySearch(ages, 97*time.Hour)
		if n := len(ages) - at; n < 27 || n > 33 {
			t.Errorf("%d attempts in 5 days, every 4 hours makes 30", n)
		}
		w.follow("example.test", "dest", "five-day")
		pass(slow.Expire + time.Minute)
		if r := w.recipient(saved, 0); r.State != pb.RecipientState_RECIPIENT_STATE_BOUNCED {
			t.Errorf("%s after 9 days, its policy says 5", r.State)
		}
		grey.stop(w)
	})
}

// Reports expire by a policy of their own, whatever that of their domain.
func TestReportsHaveAPolicyOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, grey := weeks(t, "eleven")
		id := w.accept("boss@example.test", "user@example.test")
		w.runAll()
		w.awaitEnd(id)
		rows := w.history(id)
		report, err := relay.MessageIDFromBytes(rows[len(rows)-1].Report)
		must(t, err)
		age := w.awaitEnd(report)
		grey.stop(w)
		if r := w.recipient(report, 0); r.State != pb.RecipientState_RECIPIENT_STATE_FROZEN || r.Attempts < 70 {
			t.Errorf("the report is %s at the age of %s, after %d attempts", r.State, age, r.Attempts)
		}
		if left, err := w.observer().Oldest("example.test", fsm.ClassReport, w.clock.now(), 1); err != nil || len(left) > 0 {
			t.Errorf("%v still waits, %v", left, err)
		}
	})
}
