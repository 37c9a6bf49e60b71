package audit

import (
	"io"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/sink"
)

func TestAuditSeesOverlaps(t *testing.T) {
	second := func(n int) time.Time { return arrival.Add(time.Duration(n) * time.Second) }
	attempt := func(from, to int) sink.Message {
		return sink.Message{From: "one@load.test", Started: second(from), Done: second(to)}
	}
	tests := []struct {
		name     string
		attempts []sink.Message
		marks    []time.Time
		want     int // violations
	}{
		{"one after the other", []sink.Message{attempt(0, 2), attempt(2, 3)}, nil, 0},
		{"at the same time", []sink.Message{attempt(0, 5), attempt(2, 3)}, nil, 1},
		{"recorded in the order of their ends", []sink.Message{attempt(2, 3), attempt(0, 5)}, nil, 1},
		{"marked between", []sink.Message{attempt(0, 5), attempt(2, 3)}, []time.Time{second(1)}, 0},
		{"marked before", []sink.Message{attempt(1, 5), attempt(2, 3)}, []time.Time{second(0)}, 1},
		{"marked after", []sink.Message{attempt(0, 5), attempt(2, 3)}, []time.Time{second(4)}, 1},
		{"one mark, two takeovers", []sink.Message{attempt(0, 9), attempt(2, 8), attempt(4, 5)}, []time.Time{second(1)}, 1},
		{"of different messages", []sink.Message{attempt(0, 5), {From: "two@load.test", Started: second(1), Done: second(2)}}, nil, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			j := &Journal{Out: io.Discard}
			b := Books{
				Transactions: test.attempts, logged: map[string]*pb.Message{"one": {Id: "Q1"}},
				marks: func(*pb.Message) ([]time.Time, error) { return test.marks, nil },
			}
			if err := b.checkOverlaps(j); err != nil {
				t.Fatal(err)
			}
			if len(j.violations) != test.want {
				t.Errorf("violations %q, want %d", j.violations, test.want)
			}
		})
	}
}
