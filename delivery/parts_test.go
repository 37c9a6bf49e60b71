package delivery

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/delivery/smtpout"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

var base = time.Unix(1_700_000_000, 0)

func TestWakes(t *testing.T) {
	at := func(s int) time.Time { return base.Add(time.Duration(s) * time.Second) }
	var w wakes
	if got := w.wait(base); got != longest {
		t.Errorf("waits %s for nothing", got)
	}
	w.add("b", at(20))
	w.add("a", at(10))
	w.add("b", at(30)) // later than what is known
	w.add("b", at(5))  // earlier: the entry of 20 s is void
	w.add("c", at(600))
	for _, step := range []struct {
		now  int
		due  []string
		wait time.Duration
	}{
		{0, nil, 5 * time.Second},
		{5, []string{"b"}, 5 * time.Second},
		{9, nil, time.Second},
		{15, []string{"a"}, 5 * time.Second},
		{20, nil, longest},
		{700, []string{"c"}, longest},
	} {
		if got := w.due(at(step.now)); !slices.Equal(got, step.due) {
			t.Errorf("at %d s: %v is due, want %v", step.now, got, step.due)
		}
		if got := w.wait(at(step.now)); got != step.wait {
			t.Errorf("at %d s: waits %s, want %s", step.now, got, step.wait)
		}
	}
	w.add("b", at(800)) // due again after it was taken
	if got := w.due(at(800)); !slices.Equal(got, []string{"b"}) {
		t.Errorf("%v is due, want b", got)
	}
	if got := w.wait(at(900)); got != longest {
		t.Errorf("waits %s for nothing", got)
	}
	w.add("late", at(100))
	if got := w.wait(at(900)); got != 0 {
		t.Errorf("waits %s for what is overdue", got)
	}
}

func TestHostOrder(t *testing.T) {
	host := func(address string, priority, weight uint32) *pb.DestinationConfig_Host {
		return &pb.DestinationConfig_Host{Address: address, Priority: priority, Weight: weight}
	}
	hosts := []*pb.DestinationConfig_Host{host("backup", 20, 1), host("one", 10, 1), host("three", 10, 3)}
	random := rand.New(rand.NewPCG(1, 2))

	first := make(map[string]int)
	const draws = 10_000
	for range draws {
		order := make(hostTrouble).order(hosts, base, random.Float64)
		if order[2] != "backup" {
			t.Fatalf("%v: the lower priority isn't first", order)
		}
		first[order[0]]++
	}
	if share := float64(first["three"]) / draws; share < 0.73 || share > 0.77 {
		t.Errorf("weight 3 of 4 comes first in %.3f of all draws", share)
	}

	trouble := make(hostTrouble)
	trouble.learn(&attempt{failedHosts: []string{"one", "three"}, ended: base})
	if got := trouble.order(hosts, base.Add(avoidHost/2), random.Float64); got[0] != "backup" {
		t.Errorf("%v: hosts in trouble come first", got)
	}
	trouble.learn(&attempt{result: smtpout.Result{Host: "three", Outcomes: make([]smtpout.Outcome, 1)}})
	if got := trouble.order(hosts, base.Add(avoidHost/2), random.Float64); !slices.Equal(got, []string{"three", "backup", "one"}) {
		t.Errorf("%v after a success of three", got)
	}
	if got := trouble.order(hosts, base.Add(avoidHost), random.Float64); got[2] != "backup" {
		t.Errorf("%v after the trouble is over", got)
	}
	if got := trouble.order(nil, base, random.Float64); len(got) != 0 {
		t.Errorf("%v of no hosts", got)
	}
}

// fixed is a Scheduler with a clock that stands and a lot that is always drawn.
func fixed(now time.Time, chance float64) *Scheduler {
	return &Scheduler{
		cfg: Config{
			Now: func() time.Time { return now }, Chance: func() float64 { return chance },
			Timing: DefaultTiming(), Node: "a",
		},
		log: slog.New(slog.DiscardHandler),
	}
}

func TestNextProbe(t *testing.T) {
	for _, tt := range []struct {
		failed   uint32
		probeMax time.Duration
		chance   float64
		want     time.Duration
	}{
		{0, 0, 0.5, 5 * time.Second},
		{1, 0, 0.5, 5 * time.Second},
		{2, 0, 0.5, 10 * time.Second},
		{3, 0, 0.5, 20 * time.Second},
		{6, 0, 0.5, 160 * time.Second},
		{7, 0, 0.5, 5 * time.Minute},
		{1 << 20, 0, 0.5, 5 * time.Minute},
		{2, 0, 0, 9 * time.Second},
		{2, 0, 1, 11 * time.Second},
		{9, time.Minute, 0.5, time.Minute},
		{0, time.Second, 0.5, time.Second},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			got := fixed(base, tt.chance).nextProbe(&pb.DestinationHealth{Failed: tt.failed},
				&pb.DestinationConfig{ProbeMax: int64(tt.probeMax)})
			if got.Sub(base) != tt.want {
				t.Errorf("probes in %s, want %s", got.Sub(base), tt.want)
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"250 2.0.0 ok", "250 2.0.0 ok"},
		{"caf\xe9", "caf\uFFFD"},
		{strings.Repeat("a", maxFailureText+1), strings.Repeat("a", maxFailureText)},
		{strings.Repeat("a", maxFailureText-1) + "é", strings.Repeat("a", maxFailureText-1)},
	} {
		got := printable(tt.in)
		if got != tt.want || !utf8.ValidString(got) {
			t.Errorf("printable(%.20q) = %.20q (%d bytes), want %.20q", tt.in, got, len(got), tt.want)
		}
	}
}

// sorted says in which list of an outcome the first recipient is.
func sorted(o outcome) string {
	switch {
	case len(o.delivered) > 0:
		return "delivered"
	case len(o.deferred) > 0:
		return "deferred"
	case len(o.uncounted) > 0:
		return "uncounted"
	case len(o.rejected) > 0:
		return "rejected"
	case len(o.expired) > 0:
		return "expired"
	case len(o.exhausted) > 0:
		return "exhausted"
	case len(o.interrupted) > 0:
		return "interrupted"
	case len(o.doubted) > 0:
		return "doubted"
	}
	return "nothing"
}

func TestSortFailure(t *testing.T) {
	failure := func(phase relay.Phase, code int, cause relay.Cause, doubt bool, err error) *relay.Failure {
		return &relay.Failure{Phase: phase, Code: code, Cause: cause, InDoubt: doubt, Err: err, At: base}
	}
	unreadable := failure(relay.PhaseData, 0, relay.CauseDeferred, false, smtpout.ErrBody)
	for _, tt := range []struct {
		name    string
		failure *relay.Failure
		age     time.Duration
		want    string
	}{
		{"body unreadable", unreadable, time.Hour, "uncounted"},
		{"body unreadable, too old", unreadable, 9 * 24 * time.Hour, "uncounted"},
		{"body unreadable everywhere, too old", unreadable, 9 * 24 * time.Hour, "expired"},
		{"body took too long", failure(relay.PhaseData, 0, relay.CauseDeferred, false, fmt.Errorf("%w: %w", smtpout.ErrBody, errTooLong)), time.Hour, "deferred"},
		{"body is gone", failure(relay.PhaseData, 0, relay.CauseDeferred, false, fmt.Errorf("%w: %w", smtpout.ErrBody, fsm.ErrNotFound)), time.Hour, "interrupted"},
		{"4xx to RCPT", failure(relay.PhaseRcpt, 450, relay.CauseDeferred, false, nil), time.Hour, "deferred"},
		{"4xx, too old", failure(relay.PhaseRcpt, 450, relay.CauseDeferred, false, nil), 5 * 24 * time.Hour, "expired"},
		{"5xx to RCPT", failure(relay.PhaseRcpt, 550, relay.CauseRejected, false, nil), time.Hour, "rejected"},
		{"5xx, too old", failure(relay.PhaseRcpt, 550, relay.CauseRejected, false, nil), 9 * 24 * time.Hour, "rejected"},
		{"552 to RCPT", failure(relay.PhaseRcpt, 552, relay.CauseRejected, false, nil), time.Hour, "deferred"},
		{"5xx greeting", failure(relay.PhaseGreeting, 554, relay.CauseRejected, false, nil), time.Hour, "uncounted"},
		{"421 to RCPT", failure(relay.PhaseRcpt, 421, relay.CauseDeferred, false, nil), time.Hour, "uncounted"},
		{"refused", failure(relay.PhaseConnect, 0, relay.CauseRefused, false, nil), 9 * 24 * time.Hour, "uncounted"},
		{"timeout in the content", failure(relay.PhaseData, 0, relay.CauseTimeout, false, nil), time.Hour, "uncounted"},
		{"hung up in the content", failure(relay.PhaseData, 0, relay.CauseClosed, false, nil), time.Hour, "deferred"},
		{"no reply to the dot", failure(relay.PhaseDot, 0, relay.CauseTimeout, true, nil), time.Hour, "deferred"},
		{"no reply, too old", failure(relay.PhaseDot, 0, relay.CauseTimeout, true, nil), 9 * 24 * time.Hour, "expired"},
		{"reset by us", failure(relay.PhaseData, 0, relay.CauseClosed, false, smtpout.ErrAborted), 9 * 24 * time.Hour, "interrupted"},
		{"reset by us after the dot", failure(relay.PhaseDot, 0, relay.CauseClosed, true, smtpout.ErrAborted), time.Hour, "doubted"},
		{"dial cancelled", failure(relay.PhaseConnect, 0, relay.CauseClosed, false, context.Canceled), time.Hour, "interrupted"},
		{"attempt too long", failure(relay.PhaseData, 0, relay.CauseTimeout, false, context.DeadlineExceeded), time.Hour, "uncounted"},
		{"no lease at the last byte", failure(relay.PhaseData, 0, relay.CauseClosed, false, fmt.Errorf("body: %w", errLeaseLost)), time.Hour, "interrupted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := fixed(base, 0.5)
			state, err := fsm.Open(fsm.Config{
				Dir: t.TempDir(), Node: "a", Logger: s.log, Metrics: prometheus.NewRegistry(),
				Fatal: func(err error) { t.Error(err) },
			})
			must(t, err)
			defer func() { must(t, state.Close()) }()
			s.cfg.State = state
			a := &attempt{
				grant: fsm.Grant{Record: &pb.ClaimRecord{Recipients: []uint32{7}}}, ended: base,
				message:    &pb.MessageRecord{AcceptedAt: base.Add(-tt.age).UnixNano()},
				recipients: []*pb.RecipientRecord{{}}, failure: tt.failure,
				copies: copies{somewhere: !strings.Contains(tt.name, "everywhere")},
			}
			o := s.sort(a, verdict{delay: time.Second})
			if got := sorted(o); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			for _, r := range slices.Concat(o.deferred, o.uncounted) {
				if r.Recipient != 7 || r.NextAttempt <= base.UnixNano() {
					t.Errorf("recipient %d is due again at %d", r.Recipient, r.NextAttempt)
				}
			}
		})
	}
}

func upQueue(slots uint32) *queue {
	return newQueue("dest", &pb.DestinationRecord{
		Config: &pb.DestinationConfig{Name: "dest", Slots: slots},
		Health: &pb.DestinationHealth{State: pb.DestinationHealth_STATE_UP},
	})
}

func TestConcurrency(t *testing.T) {
	q := upQueue(8)
	limits := func(step string, want int) {
		t.Helper()
		if q.limit != want {
			t.Errorf("%s: %d connections, want %d", step, q.limit, want)
		}
	}
	limits("a new destination", 1)
	q.succeeded(base)
	limits("a success", 2)
	for range 20 {
		q.succeeded(base)
	}
	limits("many successes", 8)
	for number := range uint64(3) {
		q.running[number] = &attempt{}
	}
	q.congested()
	limits("a refusal beside two others", 2)
	for range 5 {
		q.congested()
	}
	limits("many refusals", 1)
	q.succeeded(base)
	q.settleDown(base.Add(time.Hour))
	limits("hours later, with attempts under way", 2)
	clear(q.running)
	q.settleDown(base.Add(recentSuccess / 2))
	limits("a moment later", 2)
	q.settleDown(base.Add(recentSuccess))
	limits("when nothing was delivered lately", 1)

	for range 20 {
		q.succeeded(base)
	}
	down := &pb.DestinationRecord{Config: q.record.Config, Health: &pb.DestinationHealth{State: pb.DestinationHealth_STATE_DOWN}}
	up := q.record
	q.update(down)
	q.update(up)
	limits("after an outage", 1)
}

func TestVerdict(t *testing.T) {
	refused := &relay.Failure{Phase: relay.PhaseConnect, Cause: relay.CauseRefused, At: base}
	for _, tt := range []struct {
		name    string
		limit   int
		running uint64
		calling int
		success time.Time
		up      bool
		probe   bool
		failure *relay.Failure
		want    string
	}{
		{"first contact", 1, 1, 0, time.Time{}, true, false, refused, "failed"},
		{"others succeed", 5, 5, 0, base.Add(-time.Second), true, false, refused, "congested"},
		{"others succeeded long ago", 5, 5, 0, base.Add(-time.Minute), true, false, refused, "failed"},
		{"alone", 1, 1, 0, base.Add(-time.Second), true, false, refused, "failed"},
		{"known outage", 5, 5, 0, base.Add(-time.Second), false, false, refused, "nothing"},
		{"probe", 5, 1, 0, base.Add(-time.Second), false, true, refused, "failed"},
		{"probe that succeeds", 5, 1, 0, time.Time{}, false, true, nil, "recovered"},
		{"success", 5, 1, 0, time.Time{}, true, false, nil, "nothing"},
		{"beside a call-out", 1, 1, 1, base.Add(-time.Second), true, false, refused, "nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := upQueue(20)
			if !tt.up {
				q.record.Health.State = pb.DestinationHealth_STATE_DOWN
			}
			q.limit, q.lastAnswer = tt.limit, tt.success
			a := &attempt{probe: tt.probe, failure: tt.failure, ended: base, result: smtpout.Result{Answered: tt.failure == nil}}
			for number := range tt.running {
				q.running[number] = a
			}
			for range tt.calling {
				q.calling[&callout{attempt: a}] = true
			}
			v := fixed(base, 0.5).verdictOn(q, a)
			got := "nothing"
			switch {
			case v.failed != nil:
				got = "failed"
			case v.recovered:
				got = "recovered"
			case q.limit < tt.limit:
				got = "congested"
			}
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// One more attempt comes before a message is returned where its destination has
// recovered since the last one.
func TestAttemptComes(t *testing.T) {
	up, suspect, down := pb.DestinationHealth_STATE_UP, pb.DestinationHealth_STATE_SUSPECT, pb.DestinationHealth_STATE_DOWN
	for _, tt := range []struct {
		name                 string
		state                pb.DestinationHealth_State
		next, last, recovery time.Duration // from now; 0 for none
		want                 bool
	}{
		{"down", down, -time.Hour, -time.Hour, 0, false},
		{"up and due", up, -time.Hour, -time.Hour, 0, true},
		{"up and not due", up, time.Hour, -time.Hour, 0, false},
		{"suspect and due", suspect, -time.Hour, -time.Hour, 0, true},
		{"suspect and not due", suspect, time.Hour, -time.Hour, 0, false},
		{"recovered since", up, time.Hour, -2 * time.Hour, -time.Hour, true},
		{"recovered before", up, time.Hour, -time.Hour, -2 * time.Hour, false},
		{"recovered since and down again", down, time.Hour, -2 * time.Hour, -time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := func(d time.Duration) int64 {
				if d == 0 {
					return 0
				}
				return base.Add(d).UnixNano()
			}
			record := &pb.RecipientRecord{NextAttempt: at(tt.next), LastError: &pb.Failure{At: at(tt.last)}}
			destination := &pb.DestinationRecord{Health: &pb.DestinationHealth{State: tt.state, RecoveredAt: at(tt.recovery)}}
			if got := fixed(base, 0.5).attemptComes(record, destination); got != tt.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

// Destinations that found the node's attempts all taken are looked at again one
// by one as attempts end, at whichever destination, and in any case after a while.
func TestStarvedDestinationsWake(t *testing.T) {
	s := fixed(base, 0.5)
	s.dirty, s.turns = make(map[string]bool), make(map[string]bool)
	s.metrics = newMetrics(prometheus.NewRegistry())
	s.queues = make(map[string]*queue)
	s.running[fsm.LaneFresh] = maxAttempts
	named := func(name string) *queue {
		if s.queues[name] == nil {
			q := upQueue(20)
			q.name, q.owned = name, true
			s.queues[name] = q
		}
		return s.queues[name]
	}
	named("busy")
	for _, name := range []string{"removed", "moved", "suspended", "first", "second", "first", "third", "fourth"} {
		if !s.isStarved(named(name), fsm.LaneFresh, base) {
			t.Fatal("there is no limit")
		}
	}
	delete(s.queues, "removed")
	named("moved").owned = false
	named("suspended").record.Suspended = &pb.Suspension{}
	ends := func(want ...string) {
		t.Helper()
		clear(s.dirty)
		clear(s.turns)
		s.release(&attempt{queue: "busy"})
		if turns := slices.Sorted(maps.Keys(s.turns)); !slices.Equal(turns, want) || !s.dirty["busy"] || len(s.dirty) != 1 {
			t.Errorf("after an attempt %v are next and %v dirty, want %v and busy", turns, s.dirty, want)
		}
	}
	ends("first")
	if due := s.wakes.due(base.Add(starvedAgain)); !slices.Contains(due, "second") {
		t.Errorf("woken are %v, not the second one", due)
	}
	if s.isStarved(named("first"), fsm.LaneFresh, base) || !s.isStarved(named("second"), fsm.LaneFresh, base) {
		t.Error("the attempt isn't kept for the first one")
	}
	if s.settleTurns(named("first")); !s.turns["second"] {
		t.Error("the first one has no use for its turn, and the second one doesn't get it")
	}
	if s.isStarved(named("second"), fsm.LaneFresh, base) {
		t.Error("an attempt is free")
	}
	ends("third")
	ends("fourth")
	ends()
}

// Who waits for an attempt has it before the destination where it ended, which may
// have more to do.
func TestStarvedDestinationComesFirst(t *testing.T) {
	w := newWorld(t, "a")
	s, err := New(w.nodes["a"].config())
	must(t, err)
	s.incarnation, s.attempts, s.outcomes = w.nodes["a"].Incarnation(), w.ctx, w.ctx
	for number := range uint64(20) { // in no certain order, were it not for the turn
		for _, name := range []string{"busy", "waiting"} {
			q := upQueue(20)
			q.name, q.owned = name, true
			q.lanes[fsm.LaneFresh].ready = []fsm.Grant{{
				Claim:  &pb.ClaimRef{Incarnation: s.incarnation, Attempt: number},
				Record: &pb.ClaimRecord{Destination: name, MessageId: make([]byte, 16)},
			}}
			s.queues[name] = q
		}
		s.running, s.starved = perLane{fsm.LaneFresh: maxAttempts}, [fsm.Lanes]starved{}
		s.markDirty("waiting")
		s.scheduleDirty()
		s.release(&attempt{queue: "busy"})
		s.scheduleDirty()
		if waiting, busy := len(s.queues["waiting"].running), len(s.queues["busy"].running); waiting != 1 || busy != 0 {
			t.Errorf("the one that waited has %d attempts, the one where it ended %d", waiting, busy)
		}
		for ; s.active > 0; s.active-- {
			<-s.done // the message isn't there
		}
	}
}

// A turn outlasts the way of a claim into the log: until that is granted or denied no
// destination that has claims already takes the attempt.
func TestTurnKeepsItsAttempt(t *testing.T) {
	w := newWorld(t, "a")
	for _, denied := range []bool{false, true} {
		s, err := New(w.nodes["a"].config())
		must(t, err)
		s.incarnation, s.attempts, s.outcomes = w.nodes["a"].Incarnation(), w.ctx, w.ctx
		grant := func(name string, number uint64) fsm.Grant {
			return fsm.Grant{
				Claim:  &pb.ClaimRef{Incarnation: s.incarnation, Attempt: number},
				Record: &pb.ClaimRecord{Destination: name, MessageId: make([]byte, 16)},
			}
		}
		for _, name := range []string{"busy", "waiting"} {
			s.queues[name] = upQueue(20)
			s.queues[name].name, s.queues[name].owned = name, true
		}
		busy, waiting := s.queues["busy"], s.queues["waiting"]
		s.running[fsm.LaneFresh] = maxAttempts
		if !s.isStarved(waiting, fsm.LaneFresh, w.nodes["a"].config().Now()) {
			t.Fatal("there is no limit")
		}
		busy.lanes[fsm.LaneFresh].ready = []fsm.Grant{grant("busy", 1)}
		s.release(&attempt{queue: "busy"})
		waiting.claim(2, fsm.LaneFresh) // as its turn has it do
		waiting.proposed = true
		s.scheduleDirty()
		if len(busy.running)+len(waiting.running) > 0 {
			t.Errorf("the busy one has %d attempts, the one whose turn it is %d", len(busy.running), len(waiting.running))
		}
		if denied { // the turn goes on to the next, which is the busy one by now
			waiting.claimed(2)
			waiting.proposed = false
			s.markDirty("waiting")
		} else {
			s.granted(grant("waiting", 2))
		}
		s.scheduleDirty()
		if got := len(waiting.running); (got == 0) != denied {
			t.Errorf("denied %v: %d attempts at the one whose turn it was", denied, got)
		}
		if got := len(busy.running); (got == 1) != denied || s.kept != (perLane{}) {
			t.Errorf("denied %v: %d attempts at the busy one, kept are %v", denied, got, s.kept)
		}
		for ; s.active > 0; s.active-- {
			<-s.done // the message isn't there
		}
	}
}

// The cursor follows what comes in behind it, and the rescan believes the feed.
func TestCursor(t *testing.T) {
	key := func(n byte) fsm.QueueKey { return fsm.QueueKey{n} }
	q := &lane{}
	if q.passed(key(1)) {
		t.Error("a cursor at the head has passed something")
	}
	q.cursor = key(5)
	q.lower(key(7))
	if q.cursor.Compare(key(5)) != 0 {
		t.Error("the cursor moved forward")
	}
	if !q.passed(key(3)) || q.passed(key(5)) {
		t.Error("the cursor has passed what is before it, and nothing else")
	}
	q.suspect = &fsm.Due{Key: key(3)}
	q.lower(key(4))
	if q.suspect == nil {
		t.Error("a later row clears the suspicion")
	}
	q.lower(key(3))
	if q.suspect != nil || q.cursor.Compare(key(3)) != 0 {
		t.Errorf("suspect %v, cursor %v", q.suspect, q.cursor)
	}
}

func TestConfig(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("an empty configuration is taken")
	}
	var timing Timing
	timing.Idle = time.Hour
	timing.setDefaults()
	want := DefaultTiming()
	want.Idle = time.Hour
	if timing != want {
		t.Errorf("got %+v", timing)
	}
}
