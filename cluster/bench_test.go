package cluster

import (
	"fmt"
	"testing"
)

// BenchmarkPropose accepts messages on all nodes of a cluster of three at once,
// with the default timing, from 50 proposers.
func BenchmarkPropose(b *testing.B) {
	for _, size := range []int{1 << 10, 10 << 10, 64 << 10} {
		for _, inFlight := range []int{1, 2, 4, 8} {
			b.Run(fmt.Sprintf("size=%d/inflight=%d", size, inFlight), func(b *testing.B) {
				w := newWorld(b, "a", "b", "c")
				w.adjust = func(c *Config) {
					c.Limits.EntriesInFlight = inFlight
					c.Timing = DefaultTiming()
				}
				w.startAll()
				w.awaitLeased(w.names...)
				w.nodes["a"].configure()
				body := make([]byte, size)
				work := make(chan struct{})
				done := make(chan struct{})
				b.ResetTimer()
				for i := range 50 {
					n := w.nodes[w.names[i%3]]
					go func() {
						for range work {
							n.must(message(b, body), body)
						}
						done <- struct{}{}
					}()
				}
				for range b.N {
					work <- struct{}{}
				}
				close(work)
				for range 50 {
					<-done
				}
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
				for _, name := range w.names {
					w.nodes[name].stop()
				}
			})
		}
	}
}
