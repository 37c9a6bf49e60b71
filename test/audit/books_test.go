package audit

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/load"
	"holdfast/test/sink"
)

var arrival = time.Unix(1000, 0)

// agreeing are three books that agree: one accepted message that arrived once.
func agreeing() *Books {
	b := &Books{
		Answers: []load.Answer{{ID: "one", Outcome: load.Accepted, QueueID: "Q1", Address: "x:25"}},
		logged:  map[string]*pb.Message{"one": {Id: "Q1", State: pb.RecipientState_RECIPIENT_STATE_DELIVERED}},
	}
	b.markedAt()
	b.arrives("one", 0)
	return b
}

func (b *Books) markedAt(seconds ...int) {
	var times []time.Time
	for _, n := range seconds {
		times = append(times, arrival.Add(time.Duration(n)*time.Second))
	}
	b.marks = func(*pb.Message) ([]time.Time, error) { return times, nil }
}

func (b *Books) arrives(id string, second int) {
	at := arrival.Add(time.Duration(second) * time.Second)
	sum := crc32.Checksum([]byte("body\r\n"), crc32.MakeTable(crc32.Castagnoli))
	data := fmt.Sprintf("%s: %s\r\n%s: %08x\r\n\r\nbody\r\n", load.HeaderID, id, load.HeaderSum, sum)
	b.Transactions = append(b.Transactions, sink.Message{
		ID: id, From: id + "@load.test", Started: at, Done: at, Committed: true, Data: []byte(data),
	})
}

func (b *Books) answered(id string, outcome load.Outcome) {
	b.Answers = append(b.Answers, load.Answer{ID: id, Outcome: outcome})
}

func violations(t *testing.T, b *Books) []string {
	t.Helper()
	j := &Journal{Out: io.Discard}
	if _, err := b.check(j); err != nil {
		t.Fatal(err)
	}
	return j.violations
}

// Every way in which the books can disagree is seen; a run that can't fail
// would prove nothing.
func TestAuditSeesEachViolation(t *testing.T) {
	if found := violations(t, agreeing()); len(found) > 0 {
		t.Fatalf("violations where the books agree: %q", found)
	}
	tests := []struct {
		name  string
		spoil func(*Books)
		want  string // in the first violation, "" for none
	}{
		{"lost", func(b *Books) { b.Transactions = nil }, "never arrived"},
		{"broken off", func(b *Books) { b.Transactions[0].Committed = false }, "never arrived"},
		{"not in the log", func(b *Books) { delete(b.logged, "one") }, "aren't in the log"},
		{"under another id", func(b *Books) { b.logged["one"].Id = "Q2" }, "aren't in the log"},
		{"still pending", func(b *Books) {
			b.logged["one"].State = pb.RecipientState_RECIPIENT_STATE_PENDING
		}, "aren't in the log"},
		{"held", func(b *Books) { b.hold() }, "never arrived"},
		{"held, as it may be", func(b *Books) {
			b.hold()
			b.HeldAllowed = true
		}, ""},
		{"in the queue, as it may be", func(b *Books) { b.queue(pb.RecipientState_RECIPIENT_STATE_PENDING) }, ""},
		{"held, and mail goes on", func(b *Books) { b.queue(pb.RecipientState_RECIPIENT_STATE_HELD) }, ""},
		{"arrived, and not yet recorded", func(b *Books) {
			b.queue(pb.RecipientState_RECIPIENT_STATE_PENDING)
			b.arrives("one", 0)
		}, ""},
		{"in the queue under another id", func(b *Books) {
			b.queue(pb.RecipientState_RECIPIENT_STATE_PENDING)
			b.logged["one"].Id = "Q2"
		}, "never arrived"},
		{"in the queue no more, and not arrived", func(b *Books) { b.queue(pb.RecipientState_RECIPIENT_STATE_DELIVERED) }, "never arrived"},
		{"nothing accepted", func(b *Books) { b.Answers = nil }, "nothing was accepted"},
		{"refused but delivered", func(b *Books) {
			b.answered("two", load.Refused)
			b.arrives("two", 0)
		}, "refused or cut off"},
		{"cut off but delivered", func(b *Books) {
			b.answered("two", load.Lost)
			b.arrives("two", 0)
		}, "refused or cut off"},
		{"refused for good", func(b *Books) { b.answered("two", load.Refused) }, "refused for good"},
		{"reply lost, delivered", func(b *Books) {
			b.answered("two", load.Unknown)
			b.arrives("two", 0)
		}, ""},
		{"changed", func(b *Books) { b.Transactions[0].Data = []byte("Subject: x\r\n\r\nbody\r\n") }, "arrived changed"},
		{"twice without a mark", func(b *Books) {
			b.arrives("one", 1)
			b.MaxDuplicates = 1
		}, "without having been marked"},
		{"twice, marked too late", func(b *Books) {
			b.arrives("one", 1)
			b.markedAt(2)
			b.MaxDuplicates = 1
		}, "without having been marked"},
		{"twice, marked before", func(b *Books) {
			b.arrives("one", 2)
			b.markedAt(1)
			b.MaxDuplicates = 1
		}, ""},
		{"three times, marked once", func(b *Books) {
			b.arrives("one", 2)
			b.arrives("one", 3)
			b.markedAt(1)
			b.MaxDuplicates = 2
		}, "without having been marked"},
		{"more than the slots", func(b *Books) {
			b.arrives("one", 2)
			b.markedAt(1)
		}, "slots in use"},
		{"more than the slots, without a limit", func(b *Books) {
			b.arrives("one", 2)
			b.markedAt(1)
			b.MaxDuplicates = NoLimit
		}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := agreeing()
			test.spoil(b)
			found := violations(t, b)
			if test.want == "" && len(found) > 0 {
				t.Errorf("violations %q, want none", found)
			}
			if test.want != "" && (len(found) == 0 || !strings.Contains(found[0], test.want)) {
				t.Errorf("violations %q, want one with %q", found, test.want)
			}
		})
	}
}

// hold makes the message one that two attempts of unknown outcome have held.
func (b *Books) hold() {
	b.Transactions = nil
	held := pb.RecipientState_RECIPIENT_STATE_HELD
	b.logged["one"].State = held
	b.logged["one"].Recipients = []*pb.MessageRecipient{{State: held, InDoubt: heldAfter}}
}

// queue makes the message one that has not arrived, while mail goes on.
func (b *Books) queue(state pb.RecipientState) {
	b.Transactions, b.UnderWay = nil, true
	b.logged["one"].State = state
}

func TestAuditPassesOnWhatItCannotRead(t *testing.T) {
	b, failed := agreeing(), errors.New("no answer")
	b.arrives("one", 1)
	b.marks = func(*pb.Message) ([]time.Time, error) { return nil, failed }
	if _, err := b.check(&Journal{Out: io.Discard}); !errors.Is(err, failed) {
		t.Errorf("error %v, want %v", err, failed)
	}
}

// A message that was offered until it was taken is in doubt once, however many
// answers there were.
func TestDoubtCountsOnce(t *testing.T) {
	b := agreeing()
	b.hold()
	b.answered("one", load.Unknown)
	b.answered("one", load.Deferred)
	b.answered("two", load.Deferred) // never logged
	if found := b.doubtful(); found.InDoubt != 1 || found.Held != 1 {
		t.Errorf("%+v, want one recipient in doubt, and it is held", found)
	}
}
