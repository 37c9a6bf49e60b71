package main

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"holdfast/test/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestInFlight(t *testing.T) {
	d, err := startDestination("127.0.0.1:0", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	// The steps of a dialogue as the server reports them.
	step := func(conn int, verb, args string) { d.answer(sink.Step{Verb: verb, Args: args, Conn: conn}) }
	expect := func(when string, want int) {
		t.Helper()
		if got := d.inFlight("mx-a"); got != want {
			t.Errorf("%s: %d in flight, want %d", when, got, want)
		}
	}
	step(1, "EHLO", "mx-a")
	step(2, "EHLO", "mx-b")
	expect("greeted", 0)
	step(1, "MAIL", "FROM:<>")
	step(2, "MAIL", "FROM:<>")
	expect("after MAIL", 1)
	step(1, sink.Dot, "")
	expect("before the last reply", 1)
	step(1, "RSET", "")
	expect("after RSET", 0)
	d.replyAfter = 0
	step(1, "MAIL", "FROM:<>")
	step(1, sink.Dot, "")
	expect("answered", 0)
}
