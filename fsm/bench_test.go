package fsm

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"

	pb "holdfast/proto/holdfast/v1"
)

// BenchmarkApply folds what a message costs the log, its acceptance, its claim
// and its delivery, 40 messages at a time, as raft hands them over: entries of
// at most 512 KiB, at most 16 together. An operation is a message.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1 << 10, 10 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			w := newWorld(b)
			w.up("a", 1, 0)
			w.configure(1)
			body := make([]byte, size)
			for i := range body {
				body[i] = "0123456789abcdef"[(i*i+i>>7)%16]
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				batches := w.benchEntries(40, body)
				b.StartTimer()
				for _, batch := range batches {
					fold(b, w.state, batch...)
				}
				w.state.TakeChanges()
			}
			perMessage := b.Elapsed().Seconds() / float64(b.N) / 40
			b.ReportMetric(1/perMessage, "msg/s")
		})
	}
}

// benchEntries are the entries of a number of messages from acceptance to delivery.
func (w *world) benchEntries(messages int, body []byte) [][]*raft.Log {
	var accepts, claims, outcomes []*pb.Event
	for range messages {
		id := w.newID()
		attempt := w.ids
		accepts = append(accepts, w.header(1, accepted(id, body, "sender@elsewhere.test", "user@example.test")))
		claims = append(claims, w.header(1, claimOf(attempt, id, 0)))
		outcomes = append(outcomes, w.header(1, delivered(ref(1, attempt), id, 0)))
	}
	lowest := accepts[0].Sequence
	var batches [][]*raft.Log
	for _, events := range [][]*pb.Event{accepts, claims, outcomes} {
		var batch []*raft.Log
		for len(events) > 0 {
			n, room := 0, MaxEntry
			var payloads [][]byte
			for n < len(events) && room > len(body)+300 {
				events[n].LowestOpen = lowest
				payload := body
				if events[n].GetMessageAccepted() == nil {
					payload = nil
				}
				payloads = append(payloads, payload)
				room -= len(payload) + 300
				n++
			}
			batch = append(batch, w.entry(events[:n], payloads))
			events = events[n:]
		}
		batches = append(batches, batch)
	}
	return batches
}
