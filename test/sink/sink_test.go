package sink_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"holdfast/test/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

func start(t *testing.T, config sink.Config) *sink.Server {
	t.Helper()
	server, err := sink.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// client is a raw connection: the sink is tested without the SMTP client that
// is tested with it.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, server *sink.Server) *client {
	t.Helper()
	conn, err := net.Dial("tcp", server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{t, conn, bufio.NewReader(conn)}
}

func (c *client) write(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// codes reads replies and returns their codes.
func (c *client) codes(n int) string {
	c.t.Helper()
	var codes []string
	for len(codes) < n {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("after %v: %v", codes, err)
		}
		if line[3] == ' ' {
			codes = append(codes, line[:3])
		}
	}
	return strings.Join(codes, " ")
}

func (c *client) want(codes string) {
	c.t.Helper()
	if got := c.codes(strings.Count(codes, " ") + 1); got != codes {
		c.t.Errorf("replies %s, want %s", got, codes)
	}
}

func TestDialogues(t *testing.T) {
	const open = "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
	tests := []struct{ name, send, codes string }{
		{"message", open + "DATA\r\nx\r\n..\r\n.\r\nQUIT\r\n", "220 250 250 250 354 250 221"},
		{"chunks", open + "BDAT 2\r\nabBDAT 1 LAST\r\ncQUIT\r\n", "220 250 250 250 250 250 221"},
		{"no EHLO", "MAIL FROM:<a@b>\r\nQUIT\r\n", "220 503 221"},
		{"out of sequence", "EHLO c\r\nRCPT TO:<a@b>\r\nDATA\r\nBDAT 3 LAST\r\nabcQUIT\r\n", "220 250 503 503 503 221"},
		{"no recipient", "EHLO c\r\nMAIL FROM:<>\r\nDATA\r\nQUIT\r\n", "220 250 250 554 221"},
		{"nested MAIL", open + "MAIL FROM:<e@f>\r\nQUIT\r\n", "220 250 250 250 503 221"},
		{"DATA after BDAT", open + "BDAT 1\r\naDATA\r\nQUIT\r\n", "220 250 250 250 250 503 221"},
		{"bad paths", "EHLO c\r\nMAIL a@b\r\nMAIL FROM:<a@b>\r\nRCPT TO:<>\r\nRCPT TO:<a\r\nQUIT\r\n", "220 250 501 250 501 501 221"},
		{"bad chunk", open + "BDAT -1\r\n", "220 250 250 250 501"},
		{"unknown", "HELO c\r\nVRFY a\r\nNOOP\r\nRSET\r\nSTARTTLS\r\nQUIT\r\n", "220 250 500 250 250 502 221"},
		{"declared too large", "EHLO c\r\nMAIL FROM:<a@b> SIZE=101\r\nQUIT\r\n", "220 250 552 221"},
		{"too large", open + "BDAT 101 LAST\r\n" + strings.Repeat("x", 101) + "QUIT\r\n", "220 250 250 250 552 221"},
	}
	server := start(t, sink.Config{Offer: []string{"PIPELINING", "CHUNKING", "SIZE 100"}})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := dial(t, server)
			c.write(test.send)
			c.want(test.codes)
			if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("after the last reply: %v, want EOF", err)
			}
		})
	}
}

func TestRecordsWhatHappened(t *testing.T) {
	server := start(t, sink.Config{})
	c := dial(t, server)
	c.write("EHLO c\r\nMAIL FROM:<a@b> BODY=8BITMIME\r\nRCPT TO:<c@d> NOTIFY=NEVER\r\nRCPT TO:<\"x>\"@d>\r\n" +
		"DATA\r\nX-Test-ID:  m1 \r\n\r\n..dot\r\nX-Test-Id: body\r\n.\r\n" +
		"MAIL FROM:<>\r\nRCPT TO:<c@d>\r\nRSET\r\n" +
		"MAIL FROM:<e@f>\r\nRCPT TO:<g@h>\r\nDATA\r\nhalf")
	c.want("220 250 250 250 250 354 250 250 250 250 250 250 354")
	c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := server.Wait(ctx, func(m []sink.Message) bool { return len(m) == 3 }); err != nil {
		t.Fatal(err)
	}
	messages := server.Messages()
	first := messages[0]
	if first.From != "a@b" || first.Params != "BODY=8BITMIME" || first.ID != "m1" || !first.Committed || !first.Complete || first.Conn != 1 {
		t.Errorf("first %+v", first)
	}
	if got := fmt.Sprint(first.Recipients); got != `[{c@d NOTIFY=NEVER} {"x>"@d }]` {
		t.Errorf("recipients %s", got)
	}
	if got := string(first.Data); got != "X-Test-ID:  m1 \r\n\r\n.dot\r\nX-Test-Id: body\r\n" || int64(len(got)) != first.Size {
		t.Errorf("data %q of %d octets", got, first.Size)
	}
	if first.Started.IsZero() || first.Done.Before(first.Started) {
		t.Errorf("started %v, done %v", first.Started, first.Done)
	}
	for i, data := range []string{1: "", 2: "half"} {
		if m := messages[i]; i > 0 && (m.Committed || m.Complete || string(m.Data) != data) {
			t.Errorf("broken off: %+v", m)
		}
	}
	if got := server.IDs(); len(got) != 1 || got["m1"] != 1 {
		t.Errorf("ids %v", got)
	}
	stats := server.Stats()
	if stats.Connections != 1 || stats.MaxOpen != 1 || stats.Transactions != 3 || stats.Committed != 1 || stats.Recipients != 2 {
		t.Errorf("stats %+v", stats)
	}
	server.Reset()
	if len(server.Messages()) != 0 || server.Stats().Transactions != 0 {
		t.Error("Reset left something")
	}
}

func TestRecordsOnlyIDs(t *testing.T) {
	server := start(t, sink.Config{Recording: sink.RecordIDs, IDHeader: "Subject"})
	c := dial(t, server)
	c.write("EHLO c\r\n")
	for _, id := range []string{"one", "two", "one"} {
		c.write("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nsubject: " + id + "\r\n\r\n" + strings.Repeat("x\r\n", 50_000) + ".\r\n")
	}
	c.want("220 250 250 250 354 250 250 250 354 250 250 250 354 250")
	if got := fmt.Sprint(server.IDs()); got != "map[one:2 two:1]" {
		t.Errorf("ids %s", got)
	}
	if n := len(server.Messages()); n != 0 {
		t.Errorf("%d messages kept", n)
	}
}

func TestHoldUntilReleased(t *testing.T) {
	release := make(chan struct{})
	server := start(t, sink.Config{Answer: sink.On("RCPT", sink.Reply{Hold: release})})
	c := dial(t, server)
	c.write("EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n")
	c.want("220 250 250") // what came before is not held
	close(release)
	c.want("250")
}

func TestCloseLetsGo(t *testing.T) {
	server, err := sink.Start(sink.Config{Answer: sink.On(sink.Connect, sink.Reply{Hold: make(chan struct{})})})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, server)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := server.WaitStats(ctx, func(s sink.Stats) bool { return s.Open == 1 }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.r.ReadByte(); err == nil {
		t.Error("connection open after Close")
	}
	if got := server.Stats(); got.Open != 0 {
		t.Errorf("stats %+v", got)
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	server := start(t, sink.Config{})
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	cancel(reason)
	if err := server.Wait(ctx, func([]sink.Message) bool { return false }); !errors.Is(err, reason) {
		t.Errorf("error %v, want %v", err, reason)
	}
}

func TestConfigErrors(t *testing.T) {
	for _, config := range []sink.Config{
		{Address: "nowhere"}, {Recording: 9}, {Offer: []string{"SIZE many"}},
	} {
		if server, err := sink.Start(config); err == nil {
			server.Close()
			t.Errorf("%+v starts", config)
		}
	}
}

func TestAddressCanBeTakenAgain(t *testing.T) {
	first, err := sink.Start(sink.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, first)
	c.want("220")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := start(t, sink.Config{Address: first.Addr()})
	dial(t, second).want("220")
}

func TestStallsInTheMiddleOfTheContent(t *testing.T) {
	release := make(chan struct{})
	server := start(t, sink.Config{
		Offer: sink.OfferWithout("CHUNKING"), ReadBuffer: 128 << 10, Recording: sink.RecordAll,
		Answer: sink.On("DATA", sink.Reply{Stall: release}),
	})
	const open = "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
	stuck, gone := dial(t, server), dial(t, server)
	for _, c := range []*client{stuck, gone} {
		c.write(open)
		c.want("220 250 250 250 354")
	}
	gone.write("Subject: x\r\n\r\nhalf")
	if err := gone.Conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	gone.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := server.Wait(ctx, func(m []sink.Message) bool { return len(m) == 1 && !m[0].Complete }); err != nil {
		t.Fatalf("a reset while the content is stalled: %v", err)
	}
	body := strings.Repeat("0123456789012345678901234567890123456789\r\n", 200_000)
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(stuck, body+".\r\n")
		written <- err
	}()
	select {
	case err := <-written:
		t.Fatalf("8 MB written into a stalled connection, error %v", err)
	case <-time.After(100 * time.Millisecond): // nothing happens: no event to wait for
	}
	close(release)
	stuck.want("250")
	if err := <-written; err != nil {
		t.Error(err)
	}
	if m := server.Messages()[1]; !m.Committed || m.Size != int64(len(body)) {
		t.Errorf("committed %v, %d octets of %d", m.Committed, m.Size, len(body))
	}
}
