package upkeep

import (
	"bytes"
	"context"
	"slices"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

const (
	// handTries is how often in a row this node may fail to read an operation on
	// before it lets another node try.
	handTries = 3
	// maxBackoff bounds the time between two tries.
	maxBackoff = time.Minute
	// handPause is the time after which leadership is given away once more for an
	// operation that stands where it stood: a node that can carry it on may have been
	// away, or have died before it did.
	handPause = 10 * time.Minute
)

// unlisted stands for all operations, where this node can't read which there are.
var unlisted = fsm.Bulk{Record: &pb.BulkRecord{}}

// trouble is an operation that this node couldn't read on: how often in a row, and
// when it tries again.
type trouble struct {
	tries int
	again time.Time
}

// handover is where an operation stood when this node gave leadership away for it.
type handover struct {
	cursor    []byte
	recipient uint32
	at        time.Time
}

// bars reports whether giving leadership away for an operation again would be in
// vain: it hasn't moved since, so the others couldn't read it on either.
func (h handover) bars(bulk fsm.Bulk, now time.Time) bool {
	return now.Sub(h.at) < handPause && h.recipient == bulk.Record.CursorRecipient && bytes.Equal(h.cursor, bulk.Record.Cursor)
}

func (k *Keeper) due(id relay.MessageID) bool { return !time.Now().Before(k.troubles[id].again) }

// later has an operation wait for its next try here. It never ends by that: the
// rows that this node can't read another one can, so it gives leadership away, once
// for each place where the operation stands, lest leadership goes round among nodes
// that all can't.
func (k *Keeper) later(ctx context.Context, bulk fsm.Bulk, why error) {
	now := time.Now()
	tries := k.troubles[bulk.ID].tries + 1
	pause := min(interval<<min(tries-1, 10), maxBackoff)
	k.troubles[bulk.ID] = trouble{tries: tries, again: now.Add(pause)}
	k.publish()
	log := k.cfg.Logger.With("id", bulk.ID, "kind", bulk.Record.Operation.GetKind().String())
	if bulk.ID == unlisted.ID {
		log = k.cfg.Logger.With("id", "all")
	}
	log.Error("this node can't read a bulk operation on", "tries", tries, "again_in", pause.Seconds(), "error", why)
	if tries < handTries || k.handed[bulk.ID].bars(bulk, now) {
		return
	}
	if err := k.cfg.Cluster.HandOver(ctx); err != nil {
		log.Warn("no other node could take the bulk operation over", "error", err)
		return
	}
	k.handed[bulk.ID] = handover{cursor: bulk.Record.Cursor, recipient: bulk.Record.CursorRecipient, at: now}
	log.Warn("gave leadership away so that another node carries a bulk operation on")
}

func (k *Keeper) solved(id relay.MessageID) {
	if _, had := k.troubles[id]; had {
		delete(k.troubles, id)
		k.publish()
	}
}

// forget is for a node that doesn't lead: whoever does has troubles of its own.
func (k *Keeper) forget() {
	if len(k.troubles) > 0 {
		clear(k.troubles)
		k.publish()
	}
}

func (k *Keeper) publish() {
	var stuck []string
	for id, trouble := range k.troubles {
		switch {
		case trouble.tries < handTries:
		case id == unlisted.ID:
			stuck = append(stuck, "")
		default:
			stuck = append(stuck, id.String())
		}
	}
	slices.Sort(stuck)
	k.stuck.Store(&stuck)
}

// Stuck are the ids of the bulk operations that this node leads and can't read on,
// though it has tried a few times; "" are all of them.
func (k *Keeper) Stuck() []string {
	if stuck := k.stuck.Load(); stuck != nil {
		return *stuck
	}
	return nil
}
