package fsm

import (
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Whatever comes into the log between two pieces of an operation, it hits each
// recipient that its filter picked when it began once, but those that somebody else
// has changed meanwhile; with a limit, those of so many messages. Where nothing
// comes, it hits what its preview showed.
func TestBulkIsExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := worldOf(t, mustOpen(rt, "/data/state", vfs.NewMem()))
		defer func() {
			if err := w.state.Close(); err != nil {
				rt.Errorf("close: %v", err)
			}
		}()
		w.up("a", 1, 0)
		w.configure(1)
		w.must(1, destinationSet("other"), nil)
		w.must(1, domainSet("other.test", "other"), nil)
		sent := rapid.SliceOfN(rapid.SliceOfN(rapid.SampledFrom([]string{"a@example.test", "b@other.test"}), 1, 4), 2, 6).Draw(rt, "messages")
		var all []target
		for _, to := range sent {
			id := w.accept(1, to...)
			for number := range to {
				all = append(all, target{id, uint32(number)})
			}
			w.now = w.now.Add(time.Minute)
		}
		one := rapid.SampledFrom(all)
		for range rapid.IntRange(0, 6).Draw(rt, "changes before") {
			w.disturb(rt, one.Draw(rt, "recipient"))
		}
		op := rapid.SampledFrom([]*pb.Operation{opRetry, opHold, opRelease, opBounce, opDelete, opUndelete}).Draw(rt, "operation")
		f := Filter{
			Domain: rapid.SampledFrom([]string{"", "", "other.test"}).Draw(rt, "domain"),
			To:     rapid.SampledFrom([]string{"", "", "a@example.test"}).Draw(rt, "to"),
			States: OperableStates(op.Kind),
		}
		limit := rapid.Uint64Range(0, 3).Draw(rt, "limit")
		size := rapid.SampledFrom([]int{1, 2, 3, 100}).Draw(rt, "size")
		quiet := rapid.Bool().Draw(rt, "quiet")

		bulk := w.startBulk(f, op, limit)
		began := w.index
		due := w.picked(all, f, takesBack[op.Kind])
		shown := &pb.BulkRecord{Filter: NewBulkFilter(f), Operation: op, Limit: limit, Index: began}
		meant := w.previewed(shown, size)
		record, pieces := w.disturbBulk(bulk, size, func() {
			for range rapid.IntRange(0, 2).Draw(rt, "changes") {
				if !quiet {
					w.disturb(rt, one.Draw(rt, "recipient"))
				}
			}
		})
		hit := targetsOf(pieces)
		seen, of := map[target]bool{}, map[relay.MessageID]bool{}
		for _, h := range hit {
			if seen[h] || !slices.Contains(due, h) {
				rt.Errorf("%v is hit twice, or was never meant", h)
			}
			seen[h], of[h.id] = true, true
		}
		full := limit != 0 && uint64(len(of)) >= limit
		for _, d := range due {
			switch r := w.recipientOf(d.id, d.number); {
			case seen[d], r.ChangedIndex > began, full && !of[d.id]:
			default:
				rt.Errorf("%v is left out: %v", d, r)
			}
		}
		messages, none := uint64(len(of)), record.Refused == 0
		if n := record.Changed + record.Waiting + record.Refused; n != uint64(len(hit)) || record.Messages > messages || none && record.Messages < messages ||
			limit != 0 && record.Messages > limit {
			rt.Errorf("it hit %d recipients of %d messages: %v", len(hit), messages, record)
		}
		if quiet && none && (!slices.Equal(hit, meant) || shown.Messages != messages || shown.Changed != uint64(len(hit))) {
			rt.Errorf("it hit %v, shown was %v: %v and %v", hit, meant, record, shown)
		}
	})
}

// picked looks at every recipient, the slow and plain way.
func (w *world) picked(all []target, f Filter, waiting pb.Operation_Kind) []target {
	return slices.DeleteFunc(slices.Clone(all), func(t target) bool {
		r := w.recipientOf(t.id, t.number)
		waits := waiting != 0 && r.Claim != nil && r.Ordered.GetOperation().GetKind() == waiting
		return !waits && !slices.Contains(f.States, r.State) || r.State == deletedSt && r.UndoUntil == 0 ||
			f.Domain != "" && r.Domain != f.Domain ||
			f.To != "" && r.Recipient.Address != f.To && !slices.ContainsFunc(r.Earlier, func(e *pb.Recipient) bool { return e.Address == f.To })
	})
}

// disturb lets something happen to a recipient, if it can.
func (w *world) disturb(t *rapid.T, at target) {
	switch rapid.IntRange(0, 6).Draw(t, "what") {
	case 0:
		w.handOver(at.id, at.number)
	case 1:
		w.fold(1, warned(at.id, at.number), nil)
	case 2: // it is tried, perhaps until the end
		w.attempts++
		event := claimOf(w.attempts, at.id, at.number)
		event.GetAttemptStarted().Claims[0].Destination = w.recipientOf(at.id, at.number).Destination
		w.fold(1, event, nil)
	case 3:
		if claim := w.recipientOf(at.id, at.number).Claim; claim != nil {
			w.must(1, deferred(claim, at.id, w.now.Add(time.Minute), at.number), nil)
		}
	default:
		op := rapid.SampledFrom([]*pb.Operation{
			opHold, opRelease, opDelete, opUndelete,
			{Kind: pb.Operation_KIND_DELETE, UndoFor: int64(5 * time.Minute)},
			{Kind: pb.Operation_KIND_REDIRECT, Address: "b@other.test"}, {Kind: pb.Operation_KIND_REDIRECT, Address: "a@example.test"},
		}).Draw(t, "operation")
		w.fold(1, operated(op, at.id, at.number), nil)
	}
}
