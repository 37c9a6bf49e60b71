package smtpout_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast/delivery/smtpout"
	"holdfast/relay"
	"holdfast/test/sink"
)

// atMost is an answer of a server that takes so many recipients at a time and tells
// nobody before.
func atMost(n int, reply sink.Reply) func(sink.Step) sink.Reply {
	return func(s sink.Step) sink.Reply {
		if s.Verb == "RCPT" && s.Message != nil && len(s.Message.Recipients) >= n {
			return reply
		}
		return sink.Reply{}
	}
}

func addresses(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("r%d@example.org", i))
	}
	return list
}

// A peer that takes fewer recipients at a time gets the message again for the others,
// on the same connection, whether it says so before or when it has had enough.
func TestMoreRecipientsThanThePeerTakes(t *testing.T) {
	const recipients, limit = 11, 4
	content := strings.Repeat("a line of the message\r\n", 20_000)
	for name, server := range map[string]sink.Config{
		"announced":          {},
		"452 4.5.3":          {Answer: atMost(limit, sink.Reply{Code: 452, Enhanced: "4.5.3", Text: "too many recipients"})},
		"452":                {Answer: atMost(limit, sink.Reply{Code: 452, Text: "too many recipients"})},
		"552 5.5.3, RFC 821": {Answer: atMost(limit, sink.Reply{Code: 552, Enhanced: "5.5.3", Text: "too many recipients"})},
	} {
		t.Run(name, func(t *testing.T) {
			eachOffer(t, func(t *testing.T, offer []string) {
				config := server
				config.Offer = append([]string{}, offer...)
				if config.Answer == nil {
					config.Offer = append(config.Offer, fmt.Sprintf("LIMITS RCPTMAX=%d", limit))
				}
				s := startSink(t, config)
				conn := connect(t, newDialer(), s.Addr())
				wantAccepted(t, conn.Send(testContext(t), message(content, addresses(recipients)...)))
				seen := map[string]int{}
				for _, m := range s.Messages() {
					if len(m.Recipients) > limit || string(m.Data) != content {
						t.Errorf("%d octets for %d recipients", len(m.Data), len(m.Recipients))
					}
					for _, r := range m.Recipients {
						seen[r.Address]++
					}
				}
				for _, address := range addresses(recipients) {
					if seen[address] != 1 {
						t.Errorf("%s got it %d times", address, seen[address])
					}
				}
				if stats := s.Stats(); stats.Connections != 1 || stats.Committed != 3 {
					t.Errorf("%+v, want 3 messages on one connection", stats)
				}
				if !conn.Alive() {
					t.Error("the connection isn't kept")
				}
			})
		})
	}
}

// Where nobody is taken the reply is about more than the transaction: it stands.
func TestNobodyTakenIsNoSurplus(t *testing.T) {
	eachOffer(t, func(t *testing.T, offer []string) {
		var mails atomic.Int64
		server := startSink(t, sink.Config{Offer: offer, Answer: func(s sink.Step) sink.Reply {
			if s.Verb == "MAIL" {
				mails.Add(1)
			}
			return atMost(0, sink.Reply{Code: 452, Enhanced: "4.5.3", Text: "enough for this hour"})(s)
		}})
		conn := connect(t, newDialer(), server.Addr())
		for _, outcome := range conn.Send(testContext(t), message("x\r\n", addresses(3)...)).Outcomes {
			wantFailure(t, outcome.Failure, want{relay.CauseDeferred, relay.PhaseRcpt, 452, false})
			if f := outcome.Failure; f.Untried || f.Own || f.Class() != relay.TemporaryFailure {
				t.Errorf("%+v, want the peer's own refusal", f)
			}
		}
		if n := mails.Load(); n != 1 {
			t.Errorf("%d transactions, want 1", n)
		}
	})
}

// wantUntried wants a recipient that may come again at once, and has had no attempt.
func wantUntried(t *testing.T, f *relay.Failure) {
	t.Helper()
	if f == nil || !f.Untried || f.InDoubt || f.Class() != relay.HostFailure {
		t.Errorf("%+v, want that the turn never came", f)
	}
}

// second is an answer to a step when it comes for the second time.
func second(verb string, reply sink.Reply) func(sink.Step) sink.Reply {
	var count atomic.Int64
	return func(s sink.Step) sink.Reply {
		if s.Verb == verb && count.Add(1) == 2 {
			return reply
		}
		return sink.Reply{}
	}
}

// Each transaction has its own end: what it says is of its recipients alone.
func TestEachLotHasItsOwnEnd(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(sink.Step) sink.Reply
		second want   // r2 and r3; r0 and r1 are taken
		rest   string // of r4
	}{
		{name: "content refused", answer: second(sink.Dot, sink.Reply{Code: 554, Text: "not for these"}),
			second: want{relay.CauseRejected, relay.PhaseDot, 554, false}, rest: "taken"},
		{name: "MAIL deferred", answer: second("MAIL", sink.Reply{Code: 452, Text: "later"}),
			second: want{relay.CauseDeferred, relay.PhaseMail, 452, false}, rest: "the same"},
		{name: "421", answer: second("MAIL", sink.Reply{Code: 421, Text: "enough of you"}),
			second: want{relay.CauseDeferred, relay.PhaseMail, 421, false}, rest: "the same"},
		{name: "no reply to the dot", answer: second(sink.Dot, sink.Reply{Code: 250, Silent: true, Hangup: true}),
			second: want{relay.CauseClosed, relay.PhaseDot, 0, true}, rest: "untried"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := startSink(t, sink.Config{Offer: []string{"PIPELINING", "LIMITS RCPTMAX=2"}, Answer: tt.answer})
			conn := connect(t, newDialer(), server.Addr())
			result := conn.Send(testContext(t), message("x\r\n", addresses(5)...))
			if result.Stale || result.Outcomes[0].Failure != nil || result.Outcomes[1].Failure != nil {
				t.Errorf("%+v, want the first two to be taken", result)
			}
			wantFailure(t, result.Outcomes[2].Failure, tt.second)
			wantFailure(t, result.Outcomes[3].Failure, tt.second)
			switch last := result.Outcomes[4]; tt.rest {
			case "taken":
				if last.Failure != nil || last.Reply.Code != 250 {
					t.Errorf("the last: %+v, want it to be taken", last)
				}
			case "the same":
				wantFailure(t, last.Failure, tt.second)
			case "untried":
				wantUntried(t, last.Failure)
			}
		})
	}
}

// Who is left when the connection has no further transaction comes again.
func TestNoFurtherTransaction(t *testing.T) {
	hangup := sink.On(sink.Dot, sink.Reply{Code: 250, Text: "taken", Hangup: true})
	for name, server := range map[string]sink.Config{
		"announced":           {Offer: []string{"LIMITS MAILMAX=1 RCPTMAX=2"}},
		"closed":              {Offer: []string{"LIMITS RCPTMAX=2"}, Answer: hangup},
		"closed at the next":  {Offer: []string{"LIMITS RCPTMAX=2"}, Answer: second("MAIL", sink.Reply{Hangup: true})},
		"421 to the next one": {Offer: []string{"LIMITS RCPTMAX=2"}, Answer: second("MAIL", sink.Reply{Code: 421, Text: "goodbye"})},
		"421": {Offer: []string{"LIMITS RCPTMAX=2"}, Answer: func(s sink.Step) sink.Reply {
			if s.Verb == sink.Dot {
				return sink.Reply{Code: 250, Raw: "250 taken\r\n421 goodbye\r\n", Hangup: true}
			}
			return sink.Reply{}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSink(t, server)
			conn := connect(t, newDialer(), s.Addr())
			result := conn.Send(testContext(t), message("x\r\n", addresses(5)...))
			if result.Accepted() != 2 || result.Stale {
				t.Errorf("%d accepted, stale %v: want 2 on a connection that was good", result.Accepted(), result.Stale)
			}
			for _, outcome := range result.Outcomes[2:] {
				wantUntried(t, outcome.Failure)
			}
		})
	}
}

// An abort that finds the content with the peer lets its reply come, and no other
// transaction begin: another node may have begun one.
func TestAbortEndsTheLots(t *testing.T) {
	server, reached, release := holdAt(t, sink.Dot, []string{"LIMITS RCPTMAX=2"})
	conn := connect(t, newDialer(), server.Addr())
	left := make(chan bool, 1)
	go func() {
		<-reached
		for ctx := testContext(t); !conn.Committed() && ctx.Err() == nil; {
			runtime.Gosched()
		}
		left <- !conn.AbortUnlessCommitted()
		close(release)
	}()
	result := conn.Send(testContext(t), message("x\r\n", addresses(5)...))
	if !<-left {
		t.Fatal("aborted, though the content had arrived")
	}
	if result.Accepted() != 2 {
		t.Errorf("%d accepted, want the 2 whose reply was awaited", result.Accepted())
	}
	for _, outcome := range result.Outcomes[2:] {
		if f := outcome.Failure; f == nil || !errors.Is(f, smtpout.ErrAborted) || f.InDoubt {
			t.Errorf("failure %v, want ErrAborted without doubt", f)
		}
	}
	if got := server.Stats(); got.Transactions != 1 {
		t.Errorf("%d transactions, want no second one", got.Transactions)
	}
}

// silentAtSecond takes two recipients at a time and doesn't answer the second MAIL.
func silentAtSecond(t *testing.T) (server *sink.Server, reached chan struct{}) {
	var mails atomic.Int64
	reached = make(chan struct{})
	server = startSink(t, sink.Config{Offer: []string{"LIMITS RCPTMAX=2"}, Answer: func(s sink.Step) sink.Reply {
		if s.Verb == "MAIL" && mails.Add(1) == 2 {
			close(reached)
			return sink.Reply{Hold: make(chan struct{})}
		}
		return sink.Reply{}
	}})
	return server, reached
}

func TestAbortBetweenTheLots(t *testing.T) {
	for name, cancelled := range map[string]bool{"aborted": false, "cancelled": true} {
		t.Run(name, func(t *testing.T) {
			server, reached := silentAtSecond(t)
			conn := connect(t, newDialer(), server.Addr())
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			done := make(chan struct{})
			go func() {
				defer close(done)
				<-reached
				if cancelled {
					cancel()
				} else if !conn.AbortUnlessCommitted() {
					t.Error("not aborted, though nothing of the second transaction has left")
				}
			}()
			result := conn.Send(ctx, message("x\r\n", addresses(5)...))
			<-done
			if result.Accepted() != 2 {
				t.Errorf("%d accepted, want 2", result.Accepted())
			}
			for _, outcome := range result.Outcomes[2:] {
				if f := outcome.Failure; f == nil || f.InDoubt || !errors.Is(f, smtpout.ErrAborted) && !errors.Is(f, context.Canceled) {
					t.Errorf("failure %v, want this side's own doing without doubt", f)
				}
			}
		})
	}
}

// The time of an attempt can be over in any of its transactions: those behind it have
// had none.
func TestTimeIsOverBetweenTheLots(t *testing.T) {
	server, reached := silentAtSecond(t)
	conn := connect(t, newDialer(), server.Addr())
	ctx := &overdue{Context: testContext(t), over: make(chan struct{})}
	go func() {
		<-reached
		close(ctx.over)
	}()
	result := conn.Send(ctx, message("x\r\n", addresses(5)...))
	if result.Accepted() != 2 {
		t.Errorf("%d accepted, want 2", result.Accepted())
	}
	wantFailure(t, result.Outcomes[2].Failure, want{relay.CauseTimeout, relay.PhaseMail, 0, false})
	if result.Outcomes[2].Failure.Untried {
		t.Error("the one whose transaction was cut off counts as untried")
	}
	wantUntried(t, result.Outcomes[4].Failure)
}

// overdue is a context whose deadline a test brings about.
type overdue struct {
	context.Context
	over chan struct{}
}

func (o *overdue) Done() <-chan struct{} { return o.over }

func (o *overdue) Value(any) any { return nil }

func (o *overdue) Err() error {
	select {
	case <-o.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// A body that has gone bad, or whose claim has ended, keeps its end in each transaction.
func TestBodyIsReadAgainForEachLot(t *testing.T) {
	eachOffer(t, func(t *testing.T, offer []string) {
		server := startSink(t, sink.Config{Offer: append([]string{"LIMITS RCPTMAX=2"}, offer...)})
		conn := connect(t, newDialer(), server.Addr())
		tx := message("x\r\n", addresses(5)...)
		opened := 0
		tx.Body = func() (io.ReadCloser, error) {
			if opened++; opened > 1 {
				return badBody("x\r\n", errChecksum)()
			}
			return io.NopCloser(strings.NewReader("x\r\n")), nil
		}
		result := conn.Send(testContext(t), tx)
		if result.Accepted() != 2 || opened != 2 {
			t.Errorf("%d accepted, the body was opened %d times: want 2 and 2", result.Accepted(), opened)
		}
		for _, outcome := range result.Outcomes[2:] {
			if f := outcome.Failure; f == nil || !errors.Is(f, smtpout.ErrBody) || f.Untried {
				t.Errorf("failure %v, want ErrBody", f)
			}
		}
		if got := server.Stats(); got.Committed != 1 {
			t.Errorf("%d committed, want 1", got.Committed)
		}
	})
}

// A call-out asks for all, one after the other where the peer wants it so.
func TestVerifyAsksAll(t *testing.T) {
	for name, server := range map[string]sink.Config{
		"announced": {Offer: append(sink.DefaultOffer(), "LIMITS RCPTMAX=1")},
		"452":       {Answer: atMost(1, sink.Reply{Code: 452, Enhanced: "4.5.3", Text: "one at a time"})},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSink(t, server)
			conn := connect(t, newDialer(), s.Addr())
			for i, outcome := range conn.Verify(testContext(t), "", addresses(2)).Outcomes {
				if outcome.Failure != nil || outcome.Reply.Code != 250 {
					t.Errorf("recipient %d: %+v, want 250", i, outcome)
				}
			}
			wantAccepted(t, conn.Send(testContext(t), message("y\r\n")))
		})
	}
}
