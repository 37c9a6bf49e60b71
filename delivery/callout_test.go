package delivery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

// verifying sets up a domain whose recipients are verified at a destination.
func (w *world) verifying(slots uint32, host string) {
	w.t.Helper()
	w.destination("dest", slots, host)
	w.setDomain(&pb.DomainConfig{
		Name: "example.test", Destination: "dest", Policy: relay.DefaultPolicy, Verify: pb.Verify_VERIFY_CALLOUT,
	})
}

// ask has the owner of the destination ask it. Nodes come to know the owner one after
// the other.
func (w *world) ask(address string, anew bool) (said Said, err error) {
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	err = errNotOwner
	for errors.Is(err, errNotOwner) {
		said, err = w.owner("dest").scheduler.Ask(ctx, "dest", address, anew)
	}
	return said, err
}

// known is what every node knows of a recipient, or of the domain.
func (w *world) known(localPart string) *pb.VerifiedRecord {
	w.t.Helper()
	record, err := w.observer().Verified("example.test", localPart, w.clock.now())
	must(w.t, err)
	return record
}

// askedFor counts the RCPTs that a mail server has seen of addresses that somebody
// asked for.
type askedFor struct {
	mu  sync.Mutex // guards all
	all []string
}

func (a *askedFor) note(step sink.Step) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if step.Verb == "RCPT" && !strings.HasPrefix(step.Address, "holdfast") {
		a.all = append(a.all, step.Address)
	}
}

func (a *askedFor) list() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}

// isMail: nobody asked for it, a message goes there.
func isMail(address string) bool { return !strings.HasPrefix(address, "asked") }

// selective is a mail server that knows some recipients.
func (a *askedFor) selective(known ...string) func(sink.Step) sink.Reply {
	return func(step sink.Step) sink.Reply {
		a.note(step)
		if step.Verb == "RCPT" && !slices.Contains(known, step.Address) {
			return sink.Reply{Code: 550, Enhanced: "5.1.1", Text: "who is that"}
		}
		return sink.Reply{}
	}
}

// What a destination says is told, is in the state of every node, and isn't asked for
// again until somebody wants it anew.
func TestAsk(t *testing.T) {
	w := newWorld(t, "a", "b")
	var seen askedFor
	s := w.sink(sink.Config{Answer: seen.selective("anna@example.test")})
	w.verifying(8, s.Addr())
	w.runAll()

	for range 2 {
		said, err := w.ask("anna@example.test", false)
		if err != nil || said.Verdict != pb.Verdict_VERDICT_VALID {
			t.Fatalf("anna: %v, %v", said, err)
		}
		// Of two verdicts on the domain the later counts, and the other's event as a
		// whole is stale where it comes behind.
		w.await("anna is known", func() bool { return w.known("anna") != nil })
		said, err = w.ask("bert@example.test", false)
		if err != nil || said.Verdict != pb.Verdict_VERDICT_INVALID || said.Failure.GetText() != "who is that" {
			t.Fatalf("bert: %v, %v", said, err)
		}
		w.await("bert is known", func() bool { return w.known("bert") != nil })
	}
	if got := seen.list(); len(got) != 2 {
		t.Errorf("the destination was asked for %q", got)
	}
	if domain := w.known(""); domain.GetVerdict() != pb.Verdict_VERDICT_SELECTIVE {
		t.Errorf("the domain is known as %v", domain)
	}
	if valid := time.Unix(0, w.known("anna").Until).Sub(w.clock.now()); valid < 95*time.Hour || valid > 96*time.Hour {
		t.Errorf("anna is known for %v", valid)
	}
	if invalid := time.Unix(0, w.known("bert").Until).Sub(w.clock.now()); invalid < 119*time.Minute || invalid > 2*time.Hour {
		t.Errorf("bert is known for %v", invalid)
	}

	s.SetAnswer(seen.selective("bert@example.test"))
	if said, err := w.ask("bert@example.test", true); err != nil || said.Verdict != pb.Verdict_VERDICT_VALID {
		t.Errorf("bert, asked anew: %v, %v", said, err)
	}
	w.await("bert is known as valid", func() bool { return w.known("bert").GetVerdict() == pb.Verdict_VERDICT_VALID })
	if s.Stats().Committed != 0 {
		t.Error("a message was sent")
	}
}

// A destination that takes any recipient is found out, and nothing is kept of single
// ones (R12).
func TestAskCatchAll(t *testing.T) {
	w := newWorld(t, "a")
	var seen askedFor
	s := w.sink(sink.Config{Answer: func(step sink.Step) sink.Reply { seen.note(step); return sink.Reply{} }})
	w.verifying(8, s.Addr())
	w.runAll()
	for _, name := range []string{"anna", "bert"} {
		said, err := w.ask(name+"@example.test", false)
		if err != nil || said.Verdict != pb.Verdict_VERDICT_ACCEPTS_ANY {
			t.Fatalf("%s: %v, %v", name, said, err)
		}
		w.await("the domain is known", func() bool { return w.known("").GetVerdict() == pb.Verdict_VERDICT_ACCEPTS_ANY })
	}
	if got := seen.list(); len(got) != 1 || w.known("anna") != nil {
		t.Errorf("asked for %q, anna is known as %v", got, w.known("anna"))
	}
}

// Answers that are none: they are told as errors, and nothing is kept.
func TestAskWithoutAnswer(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(sink.Step) sink.Reply
		hold   bool // 5xx
		want   string
	}{
		"greylisted":       {sink.On("RCPT", sink.Reply{Code: 450, Enhanced: "4.2.0", Text: "come again"}), false, "come again"},
		"we are refused":   {sink.On("RCPT", sink.Reply{Code: 554, Enhanced: "5.7.1", Text: "client host rejected"}), false, "client host rejected"},
		"MAIL refused":     {sink.On("MAIL", sink.Reply{Code: 550, Enhanced: "5.7.1", Text: "not from <>"}), false, "not from <>"},
		"5xx that is held": {sink.On("RCPT", sink.Reply{Code: 550, Enhanced: "5.1.1", Text: "moving"}), true, "moving"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "a")
			s := w.sink(sink.Config{Answer: tt.answer})
			w.verifying(8, s.Addr())
			if tt.hold {
				w.set(&pb.DestinationConfig{
					Name: "dest", Hosts: []*pb.DestinationConfig_Host{{Address: s.Addr()}}, Slots: 8, Tls: "none", HoldRejected: true,
				})
			}
			w.runAll()
			_, err := w.ask("anna@example.test", false)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v", err)
			}
			if w.known("anna") != nil || w.health("dest").State != pb.DestinationHealth_STATE_UP {
				t.Errorf("anna is known as %v, the destination as %v", w.known("anna"), w.health("dest"))
			}
		})
	}
}

// A call-out that can't reach the destination is the outage's first sign. While it is
// down nobody is asked for; where no message waits to be its probe, a dialogue without
// one is, as else it would be down until somebody asked.
func TestCalloutProbes(t *testing.T) {
	for name, back := range map[string]func(w *world){
		"somebody asks": func(w *world) {
			w.await("a call-out is the probe", func() bool {
				said, err := w.ask("anna@example.test", false) // the last one may not be recorded yet
				return err == nil && said.Verdict == pb.Verdict_VERDICT_VALID
			})
		},
		"nobody asks": func(w *world) {
			// A clock that was put forward wakes nobody.
			n := w.owner("dest")
			n.lose()
			n.regain()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "a", "b")
			s := w.sink(sink.Config{})
			address := s.Addr()
			must(t, s.Close())
			w.verifying(8, address)
			// No probe is due while the test looks.
			w.set(&pb.DestinationConfig{
				Name: "dest", Hosts: []*pb.DestinationConfig_Host{{Address: address}}, Slots: 8, Tls: "none", ProbeMax: int64(time.Minute),
			})
			w.runAll()
			if _, err := w.ask("anna@example.test", false); err == nil {
				t.Fatal("a destination that isn't there has answered")
			}
			// The second opinion is another node's, and there is no third one yet.
			w.await("all know that it is down", func() bool {
				for _, n := range w.nodes {
					if record, _ := n.state.Destination("dest"); record.Health.State != pb.DestinationHealth_STATE_DOWN {
						return false
					}
				}
				return true
			})
			if _, err := w.ask("bert@example.test", false); !errors.Is(err, errDestination) || w.dials() != 2 {
				t.Errorf("before its next probe: %v, %d dials, want 2", err, w.dials())
			}
			w.sink(sink.Config{Address: address, Answer: (&askedFor{}).selective("anna@example.test")})
			w.clock.advance(2 * time.Minute)
			back(w)
			w.await("it is up", func() bool { return w.health("dest").State == pb.DestinationHealth_STATE_UP })
		})
	}
}

// A probe is one, whoever's it is: where another node's is still under way, neither a
// call-out nor a probe of its own begins beside it.
func TestCalloutsAwaitAnothersProbe(t *testing.T) {
	w := newWorld(t, "a", "b")
	stopped := w.clock.now()
	w.verifying(8, "127.0.0.1:1")
	first := w.owner("dest")
	id := w.accept(testSender, "user@example.test")
	w.destinationFails("dest", stopped)
	w.must(w.owner("dest").Incarnation(), claimEvent(1, id, "dest", true, 0), nil)
	w.destinationFails("dest", stopped) // back to the first, while the other one probes
	w.clock.advance(time.Minute)
	first.run()
	_, err := first.scheduler.Ask(w.ctx, "dest", "anna@example.test", false)
	probing := false
	first.look(func(s *Scheduler) {
		q := s.queues["dest"]
		probing = q != nil && q.probing()
	})
	if n := w.dials(); !errors.Is(err, errDestination) || probing || n != 0 {
		t.Errorf("%v; a probe: %v, and %d dials beside another node's probe", err, probing, n)
	}
}

// A host that takes connections and says nothing takes a call-out's time; the next one
// goes to the other host, and the destination is up all the while.
func TestCalloutFindsTheOtherHost(t *testing.T) {
	w := newWorld(t, "a")
	w.timing.Callout = time.Second
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer mute.Close()
	s := w.sink(sink.Config{Answer: (&askedFor{}).selective("anna@example.test")})
	w.verifying(8, mute.Addr().String())
	w.destination("dest", 8, mute.Addr().String(), s.Addr())
	w.runAll()
	if _, err := w.ask("anna@example.test", false); !errors.Is(err, errTooLong) {
		t.Errorf("the first: %v", err)
	}
	w.await("the other host says so", func() bool {
		said, err := w.ask("anna@example.test", false)
		return err == nil && said.Verdict == pb.Verdict_VERDICT_VALID
	})
	if n := w.log.count(func(e *pb.Event) bool { return e.GetDestinationFailed() != nil }); n != 0 {
		t.Errorf("%d outages were declared", n)
	}
}

// What a destination says of a recipient while an operator sets its domain anew, to have
// refusals forgotten, is forgotten with them.
func TestCalloutOutlivesNoChange(t *testing.T) {
	w := newWorld(t, "a")
	hold, asked := make(chan struct{}), make(chan struct{}, 1)
	s := w.sink(sink.Config{Answer: func(step sink.Step) sink.Reply {
		if strings.HasPrefix(step.Address, "anna") {
			asked <- struct{}{}
			return sink.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user", Hold: hold}
		}
		return sink.Reply{}
	}})
	w.verifying(8, s.Addr())
	w.runAll()
	answer := make(chan error, 1)
	go func() {
		_, err := w.ask("anna@example.test", false)
		answer <- err
	}()
	<-asked
	w.setDomain(&pb.DomainConfig{
		Name: "example.test", Destination: "dest", Policy: relay.DefaultPolicy, Verify: pb.Verify_VERIFY_CALLOUT, SpamRetention: int64(time.Hour),
	})
	close(hold)
	if err := <-answer; !errors.Is(err, errChanged) || w.known("anna") != nil {
		t.Errorf("%v; known as %v", err, w.known("anna"))
	}
}

// A destination that is slow to answer is no outage, and one that keeps a call-out for
// longer than it may take says nothing of itself.
func TestCalloutThatTakesTooLong(t *testing.T) {
	w := newWorld(t, "a")
	w.timing.Callout = 500 * time.Millisecond
	hold := make(chan struct{})
	defer close(hold)
	s := w.sink(sink.Config{Answer: sink.On("RCPT", sink.Reply{Hold: hold})})
	w.verifying(8, s.Addr())
	w.runAll()
	// The second would find a destination down that the first had so declared.
	for _, name := range []string{"anna", "bert"} {
		if _, err := w.ask(name+"@example.test", false); !errors.Is(err, errTooLong) {
			t.Errorf("error %v", err)
		}
	}
	if health := w.health("dest"); health.State != pb.DestinationHealth_STATE_UP || w.known("anna") != nil {
		t.Errorf("the destination is %v", health)
	}
}

// What the earlier hosts say, though they were asked in time, refuses nobody after a
// migration; nor does it answer who wants the destination asked anew.
func TestCalloutsEndWithTheHosts(t *testing.T) {
	w := newWorld(t, "a")
	hold := make(chan struct{})
	var atOld askedFor
	old := w.sink(sink.Config{Answer: func(step sink.Step) sink.Reply {
		atOld.note(step)
		if step.Verb == "RCPT" {
			return sink.Reply{Hold: hold, Code: 550, Enhanced: "5.1.1", Text: "moved away"}
		}
		return sink.Reply{}
	}})
	moved := w.sink(sink.Config{Answer: (&askedFor{}).selective("anna@example.test")})
	w.verifying(8, old.Addr())
	w.runAll()
	type said struct {
		Said
		err error
	}
	answers := make(chan said, 1)
	go func() {
		got, err := w.ask("anna@example.test", false)
		answers <- said{got, err}
	}()
	w.await("the old host is asked", func() bool { return len(atOld.list()) == 1 })
	w.set(&pb.DestinationConfig{Name: "dest", Hosts: []*pb.DestinationConfig_Host{{Address: moved.Addr()}}, Slots: 8, Tls: "none"})
	if got, err := w.ask("anna@example.test", false); err != nil || got.Verdict != pb.Verdict_VERDICT_VALID {
		t.Errorf("asked after the migration: %v, %v", got, err)
	}
	close(hold)
	if first := <-answers; !errors.Is(first.err, errChanged) {
		t.Errorf("asked before it: %v", first)
	}
	w.await("anna is known as valid", func() bool { return w.known("anna").GetVerdict() == pb.Verdict_VERDICT_VALID })
}

// Where a message waits, it is the probe: a host that takes RCPT may still refuse the
// content.
func TestMessageProbesBeforeCallout(t *testing.T) {
	w := newWorld(t, "a")
	s := w.sink(sink.Config{Answer: sink.On(sink.Connect, sink.Reply{Code: 421, Text: "not now", Hangup: true})})
	w.verifying(8, s.Addr())
	w.runAll()
	id := w.accept("sender@example.org", "anna@example.test")
	w.await("it is down", func() bool { return w.health("dest").State == pb.DestinationHealth_STATE_DOWN })
	w.owner("dest").stop()
	w.clock.advance(time.Minute)
	n := w.nodes["a"]
	// Its answer is awaited before the probe: nothing but the queue decides.
	scheduler, err := New(n.config())
	must(t, err)
	q := newQueue("dest", func() *pb.DestinationRecord { r, _ := n.state.Destination("dest"); return r }())
	if scheduler.mayProbeByCallout(q) {
		t.Error("a call-out may probe though a message waits")
	}
	s.SetAnswer(nil)
	n.run()
	w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_DELIVERED)
}

// Who can't be answered by this node now is told why, at once.
func TestAskRefused(t *testing.T) {
	w := newWorld(t, "a", "b")
	hold := make(chan struct{})
	defer close(hold)
	var seen askedFor
	s := w.sink(sink.Config{Answer: func(step sink.Step) sink.Reply {
		seen.note(step)
		if step.Verb == "RCPT" {
			return sink.Reply{Hold: hold}
		}
		return sink.Reply{}
	}})
	w.verifying(8, s.Addr())
	w.runAll()
	owner := w.owner("dest")
	other := w.nodes["a"]
	if other == owner {
		other = w.nodes["b"]
	}
	if _, err := other.scheduler.Ask(w.ctx, "dest", "anna@example.test", false); !errors.Is(err, errNotOwner) {
		t.Errorf("at another node: %v", err)
	}
	if _, err := w.ask("anna@elsewhere.test", false); !errors.Is(err, errNotRouted) {
		t.Errorf("of another domain: %v", err)
	}

	// ends has a question wait, and then something happen to its node.
	ends := func(name string, happens func(), want error) {
		t.Helper()
		answered := make(chan error, 1)
		go func() {
			_, err := owner.scheduler.Ask(w.ctx, "dest", name+"@example.test", false)
			answered <- err
		}()
		w.await(name+" is being asked for", func() bool { return slices.Contains(seen.list(), name+"@example.test") })
		happens()
		select {
		case err := <-answered:
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		case <-w.ctx.Done():
			t.Fatalf("%s: no answer", name)
		}
	}
	ends("lease-lost", owner.lose, errInterrupted)
	owner.regain()
	var waiting sync.WaitGroup
	ctx, cancel := context.WithCancel(w.ctx)
	busy := make(chan struct{}, maxCallouts)
	for i := range maxCallouts {
		waiting.Go(func() {
			_, err := owner.scheduler.Ask(ctx, "dest", fmt.Sprintf("waits%d@example.test", i), false)
			if errors.Is(err, errBusy) {
				busy <- struct{}{}
			}
		})
	}
	for range maxCallouts / 2 {
		w.receive("a domain may take half of what waits", busy)
	}
	cancel()
	waiting.Wait()
	owner.stop()
	if _, err := owner.scheduler.Ask(w.ctx, "dest", "anna@example.test", false); !errors.Is(err, errCalloutStopped) {
		t.Errorf("after its end: %v", err)
	}
}
