package load

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// session is one client that keeps to one address.
type session struct {
	loader  *Loader
	index   int
	address string
	inData  atomic.Bool // 354 received, final dot not sent
	serial  int         // messages begun
	dialled int         // connections
	vain    int         // addresses in a row that took nothing
}

// run sends until ctx ends or the loader has what it wants.
func (s *session) run(ctx context.Context) {
	for !s.loader.finished(ctx) {
		if s.loader.config.Roam {
			addresses := *s.loader.addresses.Load()
			s.address = addresses[(s.index+s.dialled)%len(addresses)]
		}
		s.dialled++
		c, err := dial(ctx, s.address, s.loader.config.Timeout)
		if err != nil {
			s.loader.refusedConnections.Add(1)
			s.goOn(ctx)
			continue
		}
		s.loader.connections.Add(1)
		s.use(ctx, c)
	}
}

// use sends on one connection until it is lost or has carried its share.
func (s *session) use(ctx context.Context, c *client) {
	limit := s.loader.config.PerConnection
	for sent := 0; limit == 0 || sent < limit; sent++ {
		if !s.loader.admits(ctx) {
			break
		}
		answer := s.send(ctx, c)
		s.loader.record.add(answer)
		if answer.Outcome != Accepted {
			// The connection is lost, or its pipelined dialogue is half done: a
			// new one is what a client takes after 421, too.
			_ = c.conn.Close() // how it closes says nothing more
			s.goOn(ctx)
			return
		}
		s.vain = 0
	}
	_ = c.quit() // nothing is under way: a failed QUIT loses nothing
}

// goOn is what a session does that wasn't served: it waits and tries again, or
// the next address first where there is one left.
func (s *session) goOn(ctx context.Context) {
	config := &s.loader.config
	if config.Roam {
		if s.vain++; s.vain%len(*s.loader.addresses.Load()) != 0 || s.loader.finished(ctx) {
			return
		}
		s.loader.stranded.Add(1)
	}
	pause(ctx, config.Backoff)
}

// send carries one message through its transaction and tells its end.
func (s *session) send(ctx context.Context, c *client) Answer {
	config := &s.loader.config
	s.serial++
	id := fmt.Sprintf("%s-%02d-%06d", config.Run, s.index, s.serial)
	size := config.Size
	if s.isTurn(config.LongEvery) {
		size = config.LongSize
	}
	slow := s.isTurn(config.SlowEvery)
	from := id + "@" + config.Sender
	to := config.Recipients[int(s.loader.begun.Add(1)-1)%len(config.Recipients)]
	header, body, end := s.loader.corpus.message(id, from, to, s.serial, size)

	a := Answer{ID: id, Address: s.address, Size: size, Phase: "mail"}
	if failed := s.envelope(c, from, to, &a); failed {
		return a
	}
	a.Phase = "data"
	s.inData.Store(true)
	defer s.inData.Store(false)
	if slow {
		half := len(body) / 2
		if err := c.write(header, body[:half]); err != nil {
			return a.lost(err)
		}
		header, body = nil, body[half:]
		pause(ctx, config.SlowFor)
	}
	// The dot is the end of the last write: if that fails, it wasn't sent.
	if err := c.write(header, body, end, []byte(".\r\n")); err != nil {
		return a.lost(err)
	}
	s.inData.Store(false)
	a.Phase, a.Dot = "dot", time.Now()
	r, err := c.read()
	if err != nil {
		return a.unknown(err)
	}
	a.Latency = time.Since(a.Dot)
	return a.answered(r)
}

// isTurn spreads the sessions' turns: their long messages all at once would be
// an outage of their own.
func (s *session) isTurn(every int) bool {
	return every > 0 && (s.serial+s.index*every/s.loader.config.Sessions)%every == 0
}

// envelope sends MAIL, RCPT and DATA in one flight and reads the three replies.
func (s *session) envelope(c *client, from, to string, a *Answer) (failed bool) {
	flight := fmt.Sprintf("MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n", from, to)
	if err := c.write([]byte(flight)); err != nil {
		*a = a.lost(err)
		return true
	}
	for _, want := range []int{250, 250, 354} {
		r, err := c.read()
		if err != nil {
			*a = a.lost(err)
			return true
		}
		if r.code != want {
			*a = a.answered(r)
			return true
		}
	}
	return false
}

func (a Answer) lost(err error) Answer {
	a.Outcome, a.Reply, a.At = Lost, err.Error(), time.Now()
	return a
}

func (a Answer) unknown(err error) Answer {
	a.Outcome, a.Reply, a.At = Unknown, err.Error(), time.Now()
	return a
}

func (a Answer) answered(r reply) Answer {
	a.At = time.Now()
	a.Reply = fmt.Sprintf("%d %s", r.code, r.text)
	switch {
	case r.code >= 500:
		a.Outcome = Refused
	case r.code >= 400:
		a.Outcome = Deferred
	case r.code == 250 && a.Phase == "dot":
		a.Outcome, a.QueueID = Accepted, queueID(r.text)
	default:
		a.Outcome = Refused // an answer that fits no step of the dialogue
	}
	return a
}

// queueID finds the id in "2.0.0 ID queued", or in Postfix's "2.0.0 Ok: queued
// as ID".
func queueID(text string) string {
	words := strings.Fields(text)
	for i, word := range words {
		if word != "queued" {
			continue
		}
		if i+2 < len(words) && words[i+1] == "as" {
			return words[i+2]
		}
		if i > 0 {
			return words[i-1]
		}
	}
	return ""
}

// pause waits for d, or less where ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
