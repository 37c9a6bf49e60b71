package load

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Loader sends mail as configured and keeps the answers.
type Loader struct {
	config   Config
	corpus   corpus
	sessions []*session
	record   *record

	addresses          atomic.Pointer[[]string]
	begun              atomic.Int64 // messages begun, over all sessions
	connections        atomic.Int64
	refusedConnections atomic.Int64
	stranded           atomic.Int64
}

// New checks the configuration and prepares the sessions.
func New(config Config) (*Loader, error) {
	config.setDefaults()
	if err := config.Validate(); err != nil {
		return nil, err
	}
	l := &Loader{
		config: config,
		corpus: newCorpus(max(config.Size, config.LongSize)),
		record: newRecord(config.Log),
	}
	l.SetAddresses(config.Addresses)
	for i := range config.Sessions {
		l.sessions = append(l.sessions, &session{
			loader: l, index: i, address: config.Addresses[i%len(config.Addresses)],
		})
	}
	return l, nil
}

// SetAddresses is for a loader that roams: connections from now on go to these
// servers, as after a change of the MX records. At least one.
func (l *Loader) SetAddresses(addresses []string) {
	own := slices.Clone(addresses)
	l.addresses.Store(&own)
}

// Run sends until the duration is over, the count is reached or ctx ends, and
// waits for the messages under way. A message is never abandoned by the
// loader itself, so every id ends with what the server made of it.
func (l *Loader) Run(ctx context.Context) (*Report, error) {
	began := time.Now()
	if l.config.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.config.Duration)
		defer cancel()
	}
	var sessions sync.WaitGroup
	for _, s := range l.sessions {
		sessions.Go(func() { s.run(ctx) })
	}
	sessions.Wait()
	ended := time.Now()
	window := ended.Sub(began)
	if l.config.Duration > 0 {
		window = min(window, l.config.Duration)
	}
	r := l.record
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Report{
		Began: began, Ended: ended, Window: window, Answers: r.answers,
		Connections: l.connections.Load(), ConnectionsRefused: l.refusedConnections.Load(),
		Stranded: l.stranded.Load(),
	}, r.logErr
}

func (l *Loader) finished(ctx context.Context) bool {
	if ctx.Err() != nil {
		return true
	}
	return l.config.Count > 0 && l.record.acceptedSoFar() >= l.config.Count
}

// admits asks for leave to begin the next message.
func (l *Loader) admits(ctx context.Context) bool {
	return !l.finished(ctx) && (l.config.Admit == nil || l.config.Admit(ctx))
}

// InData counts the sessions with an address that have their 354 and have not
// yet sent the final dot.
func (l *Loader) InData(address string) int {
	n := 0
	for _, s := range l.sessions {
		if s.address == address && s.inData.Load() {
			n++
		}
	}
	return n
}

// Answers are those so far, in the order of their arrival.
func (l *Loader) Answers() []Answer { return l.record.soFar() }

// Accepted is the number of messages answered 250 so far.
func (l *Loader) Accepted() int { return l.record.acceptedSoFar() }

// LastAccepted is when an address answered 250 last; the zero time where it
// never did.
func (l *Loader) LastAccepted(address string) time.Time { return l.record.lastAccepted(address) }
