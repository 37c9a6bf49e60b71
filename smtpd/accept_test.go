package smtpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// dotStuffed is content as DATA sends it.
func dotStuffed(content string) string {
	return strings.TrimPrefix(strings.ReplaceAll("\r\n"+content, "\r\n.", "\r\n.."), "\r\n") + ".\r\n"
}

func TestBodySizes(t *testing.T) {
	h := start(t, nil)
	c := h.greeted(t)
	header := len(receivedHeader(&pb.Origin{Helo: "client.example", Protocol: "ESMTP"},
		addrOf(t, "127.0.0.1"), "mx.example.net", [16]byte{}, []*pb.Recipient{{Address: "b@example.org"}}, time.Now().UTC()))
	tests := map[string]struct {
		size   int
		pieces uint32
	}{
		"short":             {1000, 0},
		"one short buffer":  {shortBody - header, 0},
		"just over it":      {shortBody - header + 1, 0},
		"one piece":         {pieceSize - header, 0},
		"just over a piece": {pieceSize - header + 1, 2},
		"two pieces":        {2*pieceSize - header, 2},
		"many":              {5<<20 + 17, 21},
	}
	for name, test := range tests {
		content := strings.Repeat(text(70000), test.size/70000+1)[:test.size-2]
		content = strings.TrimSuffix(content, "\r") // not in the midst of a line end
		content += strings.Repeat("x", test.size-2-len(content)) + "\r\n"
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/chunked=%v", name, chunked), func(t *testing.T) {
				c.t = t
				c.envelope()
				if chunked {
					half := len(content) / 2
					c.send(fmt.Sprintf("BDAT %d\r\n%sBDAT %d LAST\r\n%s", half, content[:half], len(content)-half, content[half:]))
					c.want("250 ")
				} else {
					c.ask("DATA", "354 ")
					c.send(dotStuffed(content))
				}
				answer := c.want("250 2.0.0 ")
				messages := h.accepted()
				m := messages[len(messages)-1]
				if got := withoutReceived(t, m.body); got != content {
					t.Fatalf("content changed: got %d bytes, sent %d", len(got), len(content))
				}
				if m.Content.Pieces != test.pieces {
					t.Errorf("%d pieces, want %d", m.Content.Pieces, test.pieces)
				}
				if !strings.Contains(answer, "queued") {
					t.Errorf("answer %q", answer)
				}
			})
		}
	}
}

func TestUnknownOutcomeIsTakenBack(t *testing.T) {
	for name, size := range map[string]int{"short": 100, "in pieces": 600 << 10} {
		t.Run(name, func(t *testing.T) {
			late := make(chan struct{})
			var failures atomic.Int32
			h := start(t, func(cfg *Config, c *cluster) {
				cfg.AcceptTimeout = time.Second
				c.before = func(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, error) {
					switch {
					case event.GetMessageAccepted() != nil:
						<-ctx.Done()
						// It was under way and comes into the log all the same.
						c.apply(event, payload)
						close(late)
						return nil, ctx.Err()
					case event.GetAcceptanceAborted() != nil && failures.Add(1) <= 2:
						return nil, errors.New("no leader")
					}
					return nil, nil
				}
			})
			c := h.greeted(t)
			c.envelope()
			c.ask("DATA", "354 ")
			c.send(dotStuffed(text(size)))
			c.want("451 4.3.2 ")
			<-late
			h.waitFor(t, "the message is taken back", func() bool {
				return len(h.aborted) == 1 && len(h.messages) == 0 && len(h.pieces) == 0
			})
			if got := failures.Load(); got < 3 {
				t.Errorf("abort was proposed %d times, want until its outcome was known", got)
			}
			c.ask("NOOP", "250 ")
		})
	}
}

func TestRefusedAcceptance(t *testing.T) {
	for _, code := range []pb.EventResult_Code{
		pb.EventResult_CODE_UNROUTABLE, pb.EventResult_CODE_INCOMPLETE, pb.EventResult_CODE_NOT_ACTIVE,
		pb.EventResult_CODE_ABORTED, pb.EventResult_CODE_INVALID, pb.EventResult_CODE_UNSPECIFIED,
	} {
		t.Run(code.String(), func(t *testing.T) {
			h := start(t, func(_ *Config, c *cluster) {
				c.before = func(_ context.Context, event *pb.Event, _ []byte) (*pb.EventResult, error) {
					if event.GetMessageAccepted() != nil {
						return &pb.EventResult{Code: code, Text: "no"}, nil
					}
					return nil, nil
				}
			})
			c := h.greeted(t)
			c.envelope()
			c.ask("DATA", "354 ")
			c.send(dotStuffed(text(300 << 10)))
			c.want("451 4.3.2 ")
			h.waitFor(t, "the pieces are abandoned", func() bool { return len(h.pieces) == 0 })
		})
	}
}

// TestPiecesRefused has a piece fail in each way that it may.
func TestPiecesRefused(t *testing.T) {
	tests := map[string]func(context.Context) (*pb.EventResult, error){
		"error": func(context.Context) (*pb.EventResult, error) { return nil, errors.New("too busy") },
		"refused": func(context.Context) (*pb.EventResult, error) {
			return &pb.EventResult{Code: pb.EventResult_CODE_NOT_ACTIVE}, nil
		},
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			h := start(t, func(_ *Config, c *cluster) {
				c.before = func(ctx context.Context, event *pb.Event, _ []byte) (*pb.EventResult, error) {
					if event.GetContentAppended().GetPiece() == 2 {
						return answer(ctx)
					}
					return nil, nil
				}
			})
			c := h.greeted(t)
			c.envelope()
			c.ask("DATA", "354 ")
			c.send(dotStuffed(text(2 << 20)))
			c.want("451 4.3.2 ")
			h.waitFor(t, "the pieces are abandoned", func() bool { return abandoned(h.cluster) })
			c.envelope()
		})
	}
}

// abandoned says whether pieces came and went, the last event being that.
func abandoned(c *cluster) bool {
	n := len(c.events)
	return n > 1 && c.events[n-1].GetContentAbandoned() != nil && len(c.pieces) == 0
}

// TestStuckPieces has the cluster take no piece: the client is told in time,
// and the pieces are abandoned only after their outcome is known.
func TestStuckPieces(t *testing.T) {
	release := make(chan struct{})
	h := start(t, func(cfg *Config, c *cluster) {
		cfg.AcceptTimeout = 100 * time.Millisecond
		c.before = func(_ context.Context, event *pb.Event, _ []byte) (*pb.EventResult, error) {
			if event.GetContentAppended() != nil {
				<-release
			}
			return nil, nil
		}
	})
	c := h.greeted(t)
	c.envelope()
	c.ask("DATA", "354 ")
	c.send(dotStuffed(text(2 << 20)))
	c.want("451 4.3.2 ")
	if n := h.metric(t, "holdfast_smtpd_cleanups"); n != 1 {
		t.Errorf("%v cleanups, want 1", n)
	}
	close(release)
	h.waitFor(t, "the pieces are abandoned", func() bool { return abandoned(h.cluster) })
}

// A quorum that is lost for longer than any client waits costs no disk for good:
// this node's incarnation may outlive it.
func TestPiecesAreAbandonedAfterALongOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, began := newCluster(), time.Now()
		c.before = func(context.Context, *pb.Event, []byte) (*pb.EventResult, error) {
			if time.Since(began) < time.Hour {
				return nil, errors.New("no quorum")
			}
			return nil, nil
		}
		cfg := DefaultConfig()
		cfg.Hostname, cfg.Node, cfg.Logger, cfg.Registerer = "mx.example.net", "a", slog.New(slog.DiscardHandler), prometheus.NewRegistry()
		cfg.Proposer, cfg.Directory, cfg.Gate = c, c, c
		server, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		id := relay.MessageID{1}
		c.pieces[string(id[:])] = [][]byte{[]byte("piece")}
		server.abandon(t.Context(), id, 1)
		if len(c.pieces) != 0 {
			t.Errorf("%d uploads are left", len(c.pieces))
		}
	})
}

// What a client was promised leaves before its next commands are answered: they
// may wait for a destination or a quorum, and the node may die meanwhile.
func TestReplyToContentIsNotKeptBack(t *testing.T) {
	release, acceptances := make(chan struct{}), 0
	h := start(t, func(_ *Config, c *cluster) {
		c.before = func(ctx context.Context, event *pb.Event, _ []byte) (*pb.EventResult, error) {
			if acceptances++; acceptances > 1 {
				select {
				case <-release:
				case <-ctx.Done():
				}
			}
			return nil, nil
		}
	})
	c := h.greeted(t)
	c.envelope()
	c.ask("DATA", "354 ")
	c.send("x\r\n.\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nBDAT 3 LAST\r\nx\r\n")
	c.want("250 2.0.0 ")
	close(release)
	for _, want := range []string{"250 2.1.0 ", "250 2.1.5 ", "250 2.0.0 "} {
		c.want(want)
	}
}

// Behind a chunk that wasn't taken none is, even if the gate has opened meanwhile: the
// rest isn't the message.
func TestChunksBehindARefusedOne(t *testing.T) {
	h := start(t, nil)
	c := h.greeted(t)
	c.envelope()
	h.setGate(notNow)
	c.ask("BDAT 5\r\nabc", "451 4.3.2 ")
	h.setGate(nil)
	c.ask("DATA", "451 4.3.2 ")
	c.ask("BDAT 3\r\nd", "451 4.3.2 ")
	c.ask("BDAT 3 LAST\r\ne", "451 4.3.2 ")
	if n := len(h.accepted()); n != 0 {
		t.Errorf("%d messages were accepted in part", n)
	}
	c.envelope()
	c.ask("BDAT 3 LAST\r\nf", "250 2.0.0 ")
	if m := h.accepted(); len(m) != 1 || withoutReceived(t, m[0].body) != "f\r\n" {
		t.Errorf("accepted: %v", m)
	}
}

// What is under way when the disks reach their reserve isn't stored on. A quorum that is
// gone for a moment is waited for, as before.
func TestDiskReserveInTheMidstOfContent(t *testing.T) {
	for _, tt := range []struct {
		gate         *relay.Reply
		answer, last string
	}{
		{&relay.Reply{Code: 452, Enhanced: "4.3.1", Text: "short of disk space"}, "452 4.3.1 short of disk space", "503 "},
		{notNow, "250 ", "250 2.0.0 "},
	} {
		h := start(t, nil)
		c := h.greeted(t)
		c.envelope()
		content := text(pieceSize)
		c.ask(fmt.Sprintf("BDAT %d\r\n%s", len(content)+2, content), "250 ")
		h.setGate(tt.gate)
		c.ask(fmt.Sprintf("BDAT %d\r\n%s", len(content)+2, content), tt.answer)
		h.setGate(nil)
		c.ask("BDAT 0 LAST", tt.last)
		later := func(e *pb.Event) bool { return e.GetContentAppended().GetPiece() > 0 }
		if stored := slices.ContainsFunc(h.seen(), later); stored != (tt.answer[0] == '2') {
			t.Errorf("%s: more was stored: %v", tt.answer, stored)
		}
	}
}

// TestClientGoneAfterDot: the message is accepted though nobody hears the 250.
func TestClientGoneAfterDot(t *testing.T) {
	proposed, release := make(chan struct{}), make(chan struct{})
	h := start(t, func(_ *Config, c *cluster) {
		c.before = func(_ context.Context, event *pb.Event, _ []byte) (*pb.EventResult, error) {
			if event.GetMessageAccepted() != nil {
				close(proposed)
				<-release
			}
			return nil, nil
		}
	})
	c := h.greeted(t)
	c.envelope()
	c.ask("DATA", "354 ")
	c.send(dotStuffed(text(100)))
	<-proposed
	c.nc.Close()
	close(release)
	h.waitFor(t, "the message is there", func() bool { return len(h.messages) == 1 })
	h.stop()
	if err := <-h.done; err != nil {
		t.Error(err)
	}
	h.done <- nil
	if len(h.accepted()) != 1 || len(h.aborted) != 0 {
		t.Error("the message was taken back")
	}
}

// TestClientGoneInContent cuts DATA and BDAT off at awkward places: nothing may
// be accepted or left behind.
func TestClientGoneInContent(t *testing.T) {
	long := text(600 << 10)
	tests := map[string]struct {
		command, content string
		pieces           bool
	}{
		"DATA":              {"DATA\r\n", "x\r\n", false},
		"DATA at the dot":   {"DATA\r\n", "x\r\n.", false},
		"DATA in the end":   {"DATA\r\n", "x\r\n.\r", false},
		"DATA after pieces": {"DATA\r\n", long, true},
		"BDAT":              {"BDAT 10 LAST\r\n", "123456789", false},
		"BDAT empty":        {"BDAT 1 LAST\r\n", "", false},
		"BDAT after pieces": {fmt.Sprintf("BDAT %d LAST\r\n", len(long)+1), long, true},
		"between chunks":    {fmt.Sprintf("BDAT %d\r\n", len(long)), long, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := start(t, nil)
			c := h.greeted(t)
			c.envelope()
			c.send(test.command + test.content)
			if test.command == "DATA\r\n" {
				c.want("354 ")
			}
			c.nc.Close()
			if test.pieces {
				h.waitFor(t, "the pieces are abandoned", func() bool { return abandoned(h.cluster) })
			}
			h.stop()
			if err := <-h.done; err != nil {
				t.Error(err)
			}
			h.done <- nil
			if n := len(h.accepted()); n != 0 || len(h.pieces) != 0 {
				t.Errorf("%d messages accepted, %d uploads left", n, len(h.pieces))
			}
		})
	}
}

func TestContentRefused(t *testing.T) {
	received := func(n int) string { return strings.Repeat("received : by x\r\n", n) + "\r\n" }
	const limit = 1 << 20
	tests := map[string]struct {
		content string
		want    string
	}{
		"largest":            {strings.Repeat("z", limit-2) + "\r\n", "250 "},
		"one too many":       {strings.Repeat("z", limit-1) + "\r\n", "552 5.3.4 "},
		"50 hops":            {received(50), "250 "},
		"51 hops":            {received(51), "554 5.4.6 "},
		"51 in the text":     {"Subject: x\r\n\r\n" + received(51), "250 "},
		"bare LF after 800K": {text(800<<10) + "\n" + "x\r\n", "554 5.6.0 "},
		"one long line":      {"X: " + strings.Repeat("y", 500<<10) + "\r\n", "250 "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := start(t, func(cfg *Config, _ *cluster) { cfg.MaxMessageSize = limit })
			c := h.greeted(t)
			c.envelope()
			c.ask("DATA", "354 ")
			c.send(dotStuffed(test.content))
			c.want(test.want)
			if !strings.HasPrefix(test.want, "250") {
				h.waitFor(t, "nothing is kept", func() bool { return len(h.messages) == 0 && len(h.pieces) == 0 })
			} else if got := withoutReceived(t, h.accepted()[0].body); got != test.content {
				t.Error("content changed")
			}
			c.ask("NOOP", "250 ")
		})
	}
}

// TestEndlessContent: a client that goes on after the limit is cut off, and
// nothing of what it sends later counts as a command.
func TestEndlessContent(t *testing.T) {
	h := start(t, func(cfg *Config, _ *cluster) { cfg.MaxMessageSize = 64 << 10 })
	c := h.greeted(t)
	c.envelope()
	c.ask("DATA", "354 ")
	go func() {
		// Ends with an error when the server has had enough.
		for range 100 {
			if _, err := c.nc.Write([]byte(strings.Repeat("RSET\r\n", 10000))); err != nil {
				return
			}
		}
		c.nc.Close()
	}()
	c.want("552 5.3.4 ")
	c.wantClosed()
}

func TestTooLargeAnnounced(t *testing.T) {
	h := start(t, nil)
	c := h.greeted(t)
	c.ask("MAIL FROM:<a@example.com> SIZE=52428801", "552 5.3.4 ")
	c.envelope()
	c.send("BDAT 9000000000000000000 LAST\r\nxx")
	if err := c.nc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.wantClosed()
	if len(h.accepted()) != 0 {
		t.Error("accepted")
	}
}

func TestRecipientLimits(t *testing.T) {
	t.Run("number", func(t *testing.T) {
		h := start(t, nil)
		c := h.greeted(t)
		c.ask("MAIL FROM:<a@example.com>", "250 ")
		for i := range 1000 {
			c.ask(fmt.Sprintf("RCPT TO:<u%d@example.org>", i), "250 ")
		}
		c.ask("RCPT TO:<more@example.org>", "452 4.5.3 ")
		c.ask("RCPT TO:<u7@example.org>", "250 ")
		c.ask("DATA", "354 ")
		c.send("x\r\n.\r\n")
		c.want("250 ")
		if n := len(h.accepted()[0].Recipients); n != 1000 {
			t.Errorf("%d recipients", n)
		}
	})
	t.Run("bytes", func(t *testing.T) { fillEnvelope(t, "example.org", 490) })
	// The domain is kept in A-labels too.
	t.Run("bytes of A-labels", func(t *testing.T) { fillEnvelope(t, "bücher.example", 130) })
}

// fillEnvelope names recipients until there is no room for more, and has the
// message accepted.
func fillEnvelope(t *testing.T, domain string, orcpt int) {
	h := start(t, nil)
	c := h.greeted(t)
	c.ask("MAIL FROM:<a@example.com> SMTPUTF8", "250 ")
	taken := 0
	for {
		c.send(fmt.Sprintf("RCPT TO:<u%d@%s> ORCPT=rfc822;%s\r\n", taken, domain, strings.Repeat("x", orcpt)))
		lines, err := c.reply()
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(lines[0], "452 4.5.3 ") {
			break
		}
		taken++
	}
	c.ask("DATA", "354 ")
	c.send("x\r\n.\r\n")
	c.want("250 ")
	m := h.accepted()[0]
	if len(m.Recipients) != taken || taken < 200 {
		t.Errorf("%d recipients, %d taken", len(m.Recipients), taken)
	}
	if size := sizeOf(m.MessageAccepted); size > 128<<10 {
		t.Errorf("the acceptance has %d bytes", size)
	}
}

// TestMemoryOfLongBody sends 50 MB and counts the buffers in use whenever a
// piece is proposed.
func TestMemoryOfLongBody(t *testing.T) {
	const atMost = 3 // buffers: two pieces under way, and the one that fills
	var most atomic.Int64
	var first sync.Once
	var h *harness
	ready := make(chan struct{})
	h = start(t, func(_ *Config, c *cluster) {
		look := func() int64 {
			n := int64(h.metric(t, "holdfast_smtpd_body_buffers"))
			if n > most.Load() {
				most.Store(n)
			}
			return n
		}
		c.before = func(_ context.Context, event *pb.Event, _ []byte) (*pb.EventResult, error) {
			<-ready
			look()
			// A log that answers at once would never have two pieces under way: one of
			// them is kept back for a while, or until there are too many.
			first.Do(func() {
				for kept := time.Now(); time.Since(kept) < time.Second && look() <= atMost; {
					<-time.After(5 * time.Millisecond)
				}
			})
			return nil, nil
		}
	})
	close(ready)
	c := h.greeted(t)
	if err := c.nc.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil { // 50 MiB on a busy machine
		t.Fatal(err)
	}
	c.envelope()
	c.ask("DATA", "354 ")
	content := text(50<<20 - 100)
	c.send(dotStuffed(content))
	c.want("250 ")
	if got := withoutReceived(t, h.accepted()[0].body); got != content {
		t.Error("content changed")
	}
	if n := most.Load(); n < 1 || n > atMost {
		t.Errorf("up to %d buffers were in use, want at most %d", n, atMost)
	}
}

// TestNoBufferLeft: where others hold all the memory, a long message is put off
// and a short one goes through.
func TestNoBufferLeft(t *testing.T) {
	h := start(t, func(cfg *Config, _ *cluster) {
		cfg.BodyMemory = 3 * pieceSize
		cfg.AcceptTimeout = time.Second
	})
	var slow []*client
	for range 3 {
		c := h.greeted(t)
		c.envelope()
		c.ask("DATA", "354 ")
		c.send(text(100 << 10))
		slow = append(slow, c)
	}
	waitForMetric(t, h, "holdfast_smtpd_body_buffers", 3)
	c := h.greeted(t)
	c.envelope()
	c.ask("DATA", "354 ")
	c.send(dotStuffed(text(100 << 10)))
	c.want("452 4.3.1 ")
	c.envelope()
	c.ask("DATA", "354 ")
	c.send(dotStuffed(text(1000)))
	c.want("250 ")
	for _, c := range slow {
		c.send(".\r\n")
		c.want("250 ")
	}
}

// The size that is taken may change while sessions are open.
func TestMessageSizeChanges(t *testing.T) {
	var limit atomic.Int64
	limit.Store(1 << 20)
	h := start(t, func(cfg *Config, _ *cluster) { cfg.MessageSize = limit.Load })
	c := h.greeted(t)
	c.ask("MAIL FROM:<a@example.com> SIZE=1000000", "250 ")
	c.ask("RSET", "250 ")
	limit.Store(64 << 10)
	if answer := c.ask("EHLO client.example", "250-"); !strings.Contains(answer, "SIZE 65536") {
		t.Errorf("announced: %s", answer)
	}
	c.ask("MAIL FROM:<a@example.com> SIZE=1000000", "552 5.3.4 ")
	c.envelope()
	c.ask("DATA", "354 ")
	c.send(dotStuffed(strings.Repeat(strings.Repeat("x", 70)+"\r\n", 1000)))
	c.want("552 5.3.4 ")
}
