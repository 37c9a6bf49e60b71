package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"holdfast/test/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startSink(t *testing.T, config sink.Config) *sink.Server {
	t.Helper()
	config.IDHeader = HeaderID
	s, err := sink.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func runLoader(t *testing.T, config Config) *Report {
	t.Helper()
	l, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	report, err := l.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// accepting answers like a relay that gives a queue id.
func accepting(s sink.Step) sink.Reply {
	if s.Verb == sink.Dot {
		return sink.Reply{Code: 250, Enhanced: "2.0.0", Text: fmt.Sprintf("Q%s queued", s.Message.ID)}
	}
	return sink.Reply{}
}

func TestEveryAnswerMatchesTheServer(t *testing.T) {
	one := startSink(t, sink.Config{Answer: accepting})
	two := startSink(t, sink.Config{Answer: accepting})
	var log bytes.Buffer
	report := runLoader(t, Config{
		Addresses: []string{one.Addr(), two.Addr()}, Sessions: 4, Run: "r1", Count: 200,
		Recipients: []string{"a@one.test", "b@two.test"}, Size: 1024, LongEvery: 10, LongSize: 600 << 10,
		PerConnection: 7, Log: &log,
	})
	seen := map[string]bool{}
	for address, s := range map[string]*sink.Server{one.Addr(): one, two.Addr(): two} {
		for _, m := range s.Messages() {
			id, err := Identify(m.Data)
			if err != nil {
				t.Error(err)
			}
			if seen[id] {
				t.Errorf("%s sent twice", id)
			}
			if m.From != id+"@load.test" {
				t.Errorf("message %s has sender %s", id, m.From)
			}
			seen[id] = true
		}
		if conns := s.Stats().Connections; conns < len(s.Messages())/7 {
			t.Errorf("%s: %d messages on %d connections, want 7 each at most", address, len(s.Messages()), conns)
		}
	}
	if got := report.Count(Accepted); got < 200 || got != len(seen) || got != len(report.Answers) {
		t.Errorf("%d accepted of %d answers, %d at the servers, want at least 200 and all equal", got, len(report.Answers), len(seen))
	}
	long := 0
	for _, a := range report.Answers {
		if !seen[a.ID] || a.QueueID != "Q"+a.ID || a.Latency <= 0 {
			t.Errorf("answer %+v doesn't fit what the server has", a)
		}
		if a.Size == 600<<10 {
			long++
		}
	}
	if long == 0 {
		t.Error("no long message was sent")
	}
	if lines := strings.Count(log.String(), "\n"); lines != len(report.Answers) {
		t.Errorf("%d lines written for %d answers", lines, len(report.Answers))
	}
	var first Answer
	if err := json.Unmarshal(bytes.SplitN(log.Bytes(), []byte("\n"), 2)[0], &first); err != nil || first.ID != report.Answers[0].ID {
		t.Errorf("first line %+v (%v), want %s", first, err, report.Answers[0].ID)
	}
}

func TestOutcomes(t *testing.T) {
	tests := []struct {
		name  string
		reply sink.Reply
		verb  string
		want  Outcome
		phase string
	}{
		{"deferred at MAIL", sink.Reply{Code: 451, Enhanced: "4.3.2", Text: "no quorum"}, "MAIL", Deferred, "mail"},
		{"unknown domain", sink.Reply{Code: 550, Enhanced: "5.7.1", Text: "no relay"}, "RCPT", Refused, "mail"},
		{"refused after the dot", sink.Reply{Code: 554, Enhanced: "5.6.0", Text: "bare LF"}, sink.Dot, Refused, "dot"},
		{"hung up at DATA", sink.Reply{Hangup: true}, "DATA", Lost, "mail"},
		{"taken, reply lost", sink.Reply{Code: 250, Silent: true, Hangup: true}, sink.Dot, Unknown, "dot"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			failed := false // one session, so one goroutine of the server at a time
			s := startSink(t, sink.Config{Answer: func(step sink.Step) sink.Reply {
				if step.Verb == test.verb && !failed {
					failed = true
					return test.reply
				}
				return sink.Reply{}
			}})
			report := runLoader(t, Config{
				Addresses: []string{s.Addr()}, Sessions: 1, Run: "r", Count: 1,
				Recipients: []string{"a@one.test"}, Size: 1024, Backoff: time.Millisecond,
			})
			if len(report.Answers) != 2 || report.Count(Accepted) != 1 {
				t.Fatalf("answers %+v, want the failure, then an acceptance", report.Answers)
			}
			if a := report.Answers[0]; a.Outcome != test.want || a.Phase != test.phase {
				t.Errorf("outcome %s at %s (%s), want %s at %s", a.Outcome, a.Phase, a.Reply, test.want, test.phase)
			}
		})
	}
}

// A session that is in the middle of DATA when its server goes is seen there,
// and its message counts as lost.
func TestSlowSessionIsInData(t *testing.T) {
	s := startSink(t, sink.Config{})
	l, err := New(Config{
		Addresses: []string{s.Addr()}, Sessions: 1, Run: "slow", Duration: time.Minute,
		Recipients: []string{"a@one.test"}, Size: 4096, SlowEvery: 1, SlowFor: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan *Report)
	go func() {
		report, err := l.Run(ctx)
		if err != nil {
			t.Error(err)
		}
		done <- report
	}()
	for l.InData(s.Addr()) == 0 {
		if ctx.Err() != nil {
			t.Fatal("the session never was in DATA")
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cancel()
	report := <-done
	if len(report.Answers) != 1 || report.Answers[0].Outcome == Accepted {
		t.Errorf("answers %+v, want one that isn't accepted", report.Answers)
	}
	if l.InData(s.Addr()) != 0 {
		t.Error("the session still counts as in DATA")
	}
}

// Sizes are exact, and no body has a CR or LF on its own, whatever its length.
func TestMessageSizes(t *testing.T) {
	c := newCorpus(2048)
	for size := MinSize; size < MinSize+200; size++ {
		header, body, end := c.message("id", "id@load.test", "a@b.test", size, size)
		whole := append(append(append([]byte{}, header...), body...), end...)
		if len(whole) != size {
			t.Errorf("message of %d bytes, want %d", len(whole), size)
		}
		if rest := bytes.ReplaceAll(whole, []byte("\r\n"), nil); bytes.ContainsAny(rest, "\r\n") {
			t.Errorf("size %d: bare CR or LF", size)
		}
		if _, err := Identify(append([]byte("Received: by mx\r\n"), whole...)); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
		whole[len(whole)-5]++
		if _, err := Identify(whole); err == nil {
			t.Errorf("size %d: a changed body goes unnoticed", size)
		}
	}
}

func TestReport(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	report := &Report{Began: began, Ended: at(12), Window: 10 * time.Second}
	for _, a := range []struct {
		second  int
		address string
		outcome Outcome
	}{{1, "x", Accepted}, {2, "y", Accepted}, {3, "x", Deferred}, {6, "x", Accepted}, {7, "y", Accepted}} {
		report.Answers = append(report.Answers, Answer{
			Address: a.address, Outcome: a.outcome, At: at(a.second), Latency: time.Duration(a.second) * time.Millisecond,
		})
	}
	for _, test := range []struct {
		address string
		want    time.Duration
		began   int
	}{{"", 4 * time.Second, 2}, {"x", 5 * time.Second, 1}, {"y", 5 * time.Second, 2}, {"z", 10 * time.Second, 0}} {
		if gap, start := report.LongestGap(test.address, began, at(10)); gap != test.want || !start.Equal(at(test.began)) {
			t.Errorf("gap of %q is %s from %s, want %s from %s", test.address, gap, start, test.want, at(test.began))
		}
	}
	if rate := report.Rate(); rate != 0.4 {
		t.Errorf("rate %v, want 0.4", rate)
	}
	if p50, p100 := report.Latency(0.5), report.Latency(1); p50 != 6*time.Millisecond || p100 != 7*time.Millisecond {
		t.Errorf("p50 %s, max %s, want 6ms and 7ms", p50, p100)
	}
}

func TestQueueID(t *testing.T) {
	for text, want := range map[string]string{
		"2.0.0 01JXYZ queued":        "01JXYZ",
		"2.0.0 Ok: queued as 4F2A11": "4F2A11",
		"2.0.0 fine":                 "",
		"queued":                     "",
	} {
		if got := queueID(text); got != want {
			t.Errorf("queue id of %q is %q, want %q", text, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	good := Config{Addresses: []string{"x:1"}, Sessions: 1, Run: "r", Count: 1, Recipients: []string{"a@b"}, Size: MinSize}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no address":   func(c *Config) { c.Addresses = nil },
		"no session":   func(c *Config) { c.Sessions = 0 },
		"no run":       func(c *Config) { c.Run = "" },
		"no recipient": func(c *Config) { c.Recipients = nil },
		"no end":       func(c *Config) { c.Count = 0 },
		"too small":    func(c *Config) { c.Size = 10 },
		"long small":   func(c *Config) { c.LongEvery = 1 },
	} {
		config := good
		spoil(&config)
		if _, err := New(config); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Sessions that roam go round, and where the servers are others from now on, to
// those.
func TestRoaming(t *testing.T) {
	one, two, three := startSink(t, sink.Config{}), startSink(t, sink.Config{}), startSink(t, sink.Config{})
	gone := startSink(t, sink.Config{})
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	moved := false // one session, so one goroutine
	var l *Loader
	l, err := New(Config{
		Addresses: []string{one.Addr(), gone.Addr(), two.Addr()}, Roam: true, Sessions: 1, Run: "roam", Count: 40, PerConnection: 5,
		Recipients: []string{"a@one.test"}, Size: 1024,
		Admit: func(context.Context) bool {
			if l.Accepted() == 19 && !moved {
				moved = true
				l.SetAddresses([]string{three.Addr()})
			}
			return true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := l.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range []*sink.Server{one, two, three} {
		if got, want := s.Stats().Committed, []int{10, 10, 20}[i]; got != want {
			t.Errorf("server %d got %d messages, want %d", i+1, got, want)
		}
	}
	if report.Count(Accepted) != 40 || len(l.Answers()) != 40 || report.Stranded != 0 || report.ConnectionsRefused == 0 {
		t.Errorf("%d accepted, %d answers, stranded %d times, %d connections refused", report.Count(Accepted), len(l.Answers()), report.Stranded, report.ConnectionsRefused)
	}
}

// What an outage held back is sent after it.
func TestPaceCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		admit, began := Pace(100), time.Now()
		for range 50 {
			admit(t.Context())
		}
		if took := time.Since(began); took != 490*time.Millisecond {
			t.Errorf("50 messages of 100 a second in %s", took)
		}
		pause(t.Context(), time.Second)
		for range 150 {
			admit(t.Context())
		}
		if took := time.Since(began); took != 1990*time.Millisecond {
			t.Errorf("200 messages of 100 a second, with an outage of a second, in %s", took)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if admit(ended) {
			t.Error("admitted after the end")
		}
	})
}

// The loader must never be what a measurement measures: this says what it can
// send to a server that does nothing.
func BenchmarkLoader(b *testing.B) {
	s, err := sink.Start(sink.Config{Recording: sink.RecordCount})
	if err != nil {
		b.Fatal(err)
	}
	l, err := New(Config{
		Addresses: []string{s.Addr()}, Sessions: 50, Run: "b", Count: b.N,
		Recipients: []string{"a@one.test"}, Size: 10 << 10,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	report, err := l.Run(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(report.Rate(), "msg/s")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
