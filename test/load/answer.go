package load

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Outcome is what a client knows of a message at its end.
type Outcome string

// The outcomes.
const (
	Accepted Outcome = "accepted" // 250: the server is responsible
	Deferred Outcome = "deferred" // 4xx: the client would try again
	Refused  Outcome = "refused"  // 5xx
	Lost     Outcome = "lost"     // connection lost before the final dot: surely not accepted
	Unknown  Outcome = "unknown"  // connection lost after the final dot: may have been accepted
)

// Answer is the end of one message as its client saw it.
type Answer struct {
	ID      string    `json:"id"`
	Address string    `json:"address"`
	Outcome Outcome   `json:"outcome"`
	QueueID string    `json:"queueID"` // the id of "250 2.0.0 ID queued", "" otherwise
	Phase   string    `json:"phase"`   // mail, data (354 given, content under way) or dot
	Reply   string    `json:"reply"`   // the server's words, or the error
	Size    int       `json:"size"`
	Dot     time.Time `json:"dot"` // when the final dot was sent, zero if it wasn't
	At      time.Time `json:"at"`  // when the answer came, or the connection was lost
	// From the final dot to its reply, nanoseconds; 0 where there was no reply.
	Latency time.Duration `json:"latency"`
}

// record keeps answers in the order of their arrival, and counts acceptances.
type record struct {
	mu       sync.Mutex // guards all below
	answers  []Answer
	accepted int
	last     map[string]time.Time // latest acceptance by address
	log      *json.Encoder
	logErr   error
}

func newRecord(log io.Writer) *record {
	r := &record{last: map[string]time.Time{}}
	if log != nil {
		r.log = json.NewEncoder(log)
	}
	return r
}

func (r *record) add(a Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = append(r.answers, a)
	if a.Outcome == Accepted {
		r.accepted++
		r.last[a.Address] = a.At
	}
	if r.log == nil || r.logErr != nil {
		return
	}
	if err := r.log.Encode(a); err != nil {
		r.logErr = fmt.Errorf("loader: write answers: %w", err)
	}
}

// soFar is the list as it is; later additions don't show in it.
func (r *record) soFar() []Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answers[:len(r.answers):len(r.answers)]
}

func (r *record) acceptedSoFar() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepted
}

func (r *record) lastAccepted(address string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last[address]
}
