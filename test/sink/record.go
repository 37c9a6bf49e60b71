package sink

import (
	"context"
	"maps"
	"sync"
	"time"
)

// Recipient is one RCPT command that was accepted.
type Recipient struct {
	Address string
	Params  string // ESMTP parameters as written, such as "NOTIFY=NEVER"
}

// Message is one transaction, from an accepted MAIL to its end. It never
// changes once it is recorded.
type Message struct {
	Conn       int // number of the connection, from 1
	TLS        bool
	From       string
	Params     string // ESMTP parameters of MAIL as written
	Recipients []Recipient
	Data       []byte // content without dot-stuffing; nil unless RecordAll
	Size       int64  // length of the content
	ID         string // value of the configured header
	Chunks     int    // BDAT commands, 0 for DATA
	Complete   bool   // the whole content arrived
	// Committed is set where the server answered the content with 2xx: it has
	// taken the message, even if the client never reads the reply.
	Committed bool
	Started   time.Time // when MAIL arrived
	Done      time.Time // when the last reply was decided, or the transaction broken off
}

// Stats are the counts since Start or Reset. Open and MaxOpen are of
// connections.
type Stats struct {
	Connections  int
	Open         int
	MaxOpen      int
	Transactions int // ended, in whichever way
	Committed    int
	Recipients   int // of committed transactions
	Bytes        int64
}

// record is what a server remembers.
type record struct {
	mu       sync.Mutex // guards all below
	stats    Stats
	messages []Message
	ids      map[string]int
	changed  chan struct{} // closed at the next change; nil while nobody waits
}

func (r *record) update(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// opened counts a connection and returns its number and how many are open.
func (r *record) opened() (number, open int) {
	r.update(func() {
		r.stats.Connections++
		r.stats.Open++
		r.stats.MaxOpen = max(r.stats.MaxOpen, r.stats.Open)
		number, open = r.stats.Connections, r.stats.Open
	})
	return number, open
}

func (r *record) closed() { r.update(func() { r.stats.Open-- }) }

func (r *record) open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats.Open
}

func (r *record) add(m *Message, how Recording) {
	r.update(func() {
		r.stats.Transactions++
		if m.Committed {
			r.stats.Committed++
			r.stats.Recipients += len(m.Recipients)
			r.stats.Bytes += m.Size
		}
		switch {
		case how == RecordAll:
			r.messages = append(r.messages, *m)
		case how == RecordIDs && m.Committed:
			r.ids[m.ID]++
		}
	})
}

// wait calls done after each change until it is true. done runs under the lock.
func (r *record) wait(ctx context.Context, done func() bool) error {
	for {
		r.mu.Lock()
		if done() {
			r.mu.Unlock()
			return nil
		}
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// seen is the list so far; later additions don't show in it.
func (r *record) seen() []Message { return r.messages[:len(r.messages):len(r.messages)] }

// Messages lists the ended transactions in the order of their ends, those that
// failed or broke off too. It is empty unless everything is recorded.
func (s *Server) Messages() []Message {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	return s.record.seen()
}

// Wait returns once done is true of the transactions so far, or with the cause
// of ctx's end. done must not call the server.
func (s *Server) Wait(ctx context.Context, done func([]Message) bool) error {
	return s.record.wait(ctx, func() bool { return done(s.record.seen()) })
}

// Stats are the counts so far.
func (s *Server) Stats() Stats {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	return s.record.stats
}

// WaitStats returns once done is true of the counts, or with the cause of
// ctx's end. done must not call the server.
func (s *Server) WaitStats(ctx context.Context, done func(Stats) bool) error {
	return s.record.wait(ctx, func() bool { return done(s.record.stats) })
}

// IDs counts the committed messages by the value of the configured header,
// under RecordAll and RecordIDs.
func (s *Server) IDs() map[string]int {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	if s.config.Recording != RecordAll {
		return maps.Clone(s.record.ids)
	}
	ids := make(map[string]int)
	for _, m := range s.record.messages {
		if m.Committed {
			ids[m.ID]++
		}
	}
	return ids
}

// Reset forgets transactions and counts, but not the open connections.
func (s *Server) Reset() {
	s.record.update(func() {
		open := s.record.stats.Open
		s.record.stats = Stats{Open: open, MaxOpen: open}
		s.record.messages = nil
		clear(s.record.ids)
	})
}
