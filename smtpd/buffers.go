package smtpd

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// pieceSize is the longest body that rides in MessageAccepted, and the
	// length of the pieces of a longer one.
	pieceSize = 256 << 10
	// shortBody is the first buffer of each body: most mail fits.
	shortBody = 16 << 10
)

var errNoBuffer = errors.New("no buffer became free in time")

// buffers lends the memory that bodies are kept in while they arrive. The large
// ones are bounded in number; the short ones are bounded by the connections.
type buffers struct {
	short, large sync.Pool
	lent         chan struct{} // a token per large buffer
	gauge        prometheus.Gauge
}

// buffer is used by append to data, within its capacity.
type buffer struct{ data []byte }

func newBuffers(large int, gauge prometheus.Gauge) *buffers {
	return &buffers{
		short: sync.Pool{New: func() any { return &buffer{make([]byte, 0, shortBody)} }},
		large: sync.Pool{New: func() any { return &buffer{make([]byte, 0, pieceSize)} }},
		lent:  make(chan struct{}, large),
		gauge: gauge,
	}
}

func (b *buffers) getShort() *buffer { return b.short.Get().(*buffer) }

// getLarge waits at most patience for a large buffer.
func (b *buffers) getLarge(ctx context.Context, patience time.Duration) (*buffer, error) {
	if err := acquire(ctx, b.lent, patience); err != nil {
		return nil, errNoBuffer
	}
	b.gauge.Inc()
	return b.large.Get().(*buffer), nil
}

// put takes a buffer back for use by another body.
func (b *buffers) put(buf *buffer) {
	large := cap(buf.data) == pieceSize
	buf.data = buf.data[:0]
	if !large {
		b.short.Put(buf)
		return
	}
	b.large.Put(buf)
	b.release()
}

// forget counts a buffer as returned without using its memory again: where a
// proposal failed, its payload may still be read.
func (b *buffers) forget(buf *buffer) {
	if cap(buf.data) == pieceSize {
		b.release()
	}
}

func (b *buffers) release() {
	b.gauge.Dec()
	<-b.lent
}

// acquire puts a token into a semaphore, waiting at most patience.
func acquire(ctx context.Context, semaphore chan<- struct{}, patience time.Duration) error {
	select {
	case semaphore <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case semaphore <- struct{}{}:
		return nil
	case <-timer.C:
		return context.DeadlineExceeded
	case <-ctx.Done():
		return ctx.Err()
	}
}
