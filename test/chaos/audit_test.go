package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// books are three books that agree: one accepted message that arrived once.
type books struct {
	report *load.Report
	copies map[string][]sink.Message
	logged map[string]*pb.Message
	marks  []time.Time
	limit  int
}

var arrival = time.Unix(1000, 0)

func agreeing() books {
	return books{
		report: &load.Report{Window: time.Second, Answers: []load.Answer{
			{ID: "one", Outcome: load.Accepted, QueueID: "Q1", Address: "x:25"},
		}},
		copies: map[string][]sink.Message{"one": {{Started: arrival, Committed: true}}},
		logged: map[string]*pb.Message{"one": {Id: "Q1", State: pb.RecipientState_RECIPIENT_STATE_DELIVERED}},
	}
}

func (b books) check(t *testing.T) []string {
	t.Helper()
	w := &world{out: io.Discard}
	w.checkAnswers(b.report, b.copies, b.logged)
	_, err := w.checkDuplicates(b.copies, b.logged, b.limit, func(*pb.Message) ([]time.Time, error) { return b.marks, nil })
	if err != nil {
		t.Fatal(err)
	}
	return w.violations
}

// Every way in which the books can disagree is seen; a chaos run that can't
// fail would prove nothing.
func TestAuditSeesEachViolation(t *testing.T) {
	if violations := agreeing().check(t); len(violations) > 0 {
		t.Fatalf("violations where the books agree: %q", violations)
	}
	again := func(b *books, after time.Duration) {
		b.copies["one"] = append(b.copies["one"], sink.Message{Started: arrival.Add(after)})
	}
	tests := []struct {
		name  string
		spoil func(*books)
		want  string // in the first violation, "" for none
	}{
		{"lost", func(b *books) { delete(b.copies, "one") }, "never arrived"},
		{"not in the log", func(b *books) { delete(b.logged, "one") }, "aren't in the log"},
		{"under another id", func(b *books) { b.logged["one"].Id = "Q2" }, "aren't in the log"},
		{"still pending", func(b *books) {
			b.logged["one"].State = pb.RecipientState_RECIPIENT_STATE_PENDING
		}, "aren't in the log"},
		{"nothing accepted", func(b *books) { b.report.Answers = nil }, "nothing was accepted"},
		{"refused but delivered", func(b *books) {
			b.report.Answers = append(b.report.Answers, load.Answer{ID: "two", Outcome: load.Refused})
			b.copies["two"] = []sink.Message{{}}
		}, "refused or cut off"},
		{"cut off but delivered", func(b *books) {
			b.report.Answers = append(b.report.Answers, load.Answer{ID: "two", Outcome: load.Lost})
			b.copies["two"] = []sink.Message{{}}
		}, "refused or cut off"},
		{"refused for good", func(b *books) {
			b.report.Answers = append(b.report.Answers, load.Answer{ID: "two", Outcome: load.Refused})
		}, "refused for good"},
		{"reply lost, delivered", func(b *books) {
			b.report.Answers = append(b.report.Answers, load.Answer{ID: "two", Outcome: load.Unknown})
			b.copies["two"] = []sink.Message{{}}
		}, ""},
		{"twice without a mark", func(b *books) { again(b, time.Second); b.limit = 1 }, "without having been marked"},
		{"twice, marked too late", func(b *books) {
			again(b, time.Second)
			b.limit, b.marks = 1, []time.Time{arrival.Add(2 * time.Second)}
		}, "without having been marked"},
		{"twice, marked before", func(b *books) {
			again(b, 2*time.Second)
			b.limit, b.marks = 1, []time.Time{arrival.Add(time.Second)}
		}, ""},
		{"three times, marked once", func(b *books) {
			again(b, 2*time.Second)
			again(b, 3*time.Second)
			b.limit, b.marks = 2, []time.Time{arrival.Add(time.Second)}
		}, "without having been marked"},
		{"more than the slots", func(b *books) {
			again(b, 2*time.Second)
			b.marks = []time.Time{arrival.Add(time.Second)}
		}, "slots in use"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := agreeing()
			test.spoil(&b)
			violations := b.check(t)
			if test.want == "" && len(violations) > 0 {
				t.Errorf("violations %q, want none", violations)
			}
			if test.want != "" && (len(violations) == 0 || !strings.Contains(violations[0], test.want)) {
				t.Errorf("violations %q, want one with %q", violations, test.want)
			}
		})
	}
}

func TestAuditSeesChangedContents(t *testing.T) {
	w := &world{out: io.Discard}
	w.checkContents(map[string][]sink.Message{"one": {{Data: []byte("Subject: x\r\n\r\nbody\r\n")}}})
	if len(w.violations) != 1 {
		t.Errorf("violations %q, want one", w.violations)
	}
}

func TestAuditPassesOnWhatItCannotRead(t *testing.T) {
	b, failed := agreeing(), errors.New("no answer")
	b.copies["one"] = append(b.copies["one"], sink.Message{})
	w := &world{out: io.Discard}
	_, err := w.checkDuplicates(b.copies, b.logged, 1, func(*pb.Message) ([]time.Time, error) { return nil, failed })
	if !errors.Is(err, failed) {
		t.Errorf("error %v, want %v", err, failed)
	}
}

func TestParse(t *testing.T) {
	if o, err := parse([]string{"-short"}); err != nil || o.duration != 20*time.Second || o.held != 300 {
		t.Errorf("-short gives %+v, %v", o, err)
	}
	o, err := parse([]string{"-run", "install,kill"})
	if err != nil {
		t.Fatal(err)
	}
	if chosen, err := o.chosen(); err != nil || len(chosen) != 2 || chosen[0].name != "kill" || chosen[1].name != "install" {
		t.Errorf("chosen %v, %v", chosen, err)
	}
	for _, args := range [][]string{{"-run", "x"}, {"-run", "kill,x"}, {"more"}, {"-duration", "1s"}, {"-held", "0"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
