package fsm

import (
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// View is the state at one index, unmoved by what is applied after. It needs no
// quorum. Close it: it keeps old rows from being compacted away.
type View struct {
	gen     *generation
	snap    *pebble.Snapshot
	tables  tables
	applied *pb.AppliedRecord
	past    bool   // rewound
	index   uint64 // that it is of
}

// View pins the state as it is now.
func (s *State) View() (*View, error) {
	s.live.RLock()
	defer s.live.RUnlock()
	if s.live.gen == nil {
		return nil, ErrClosed
	}
	s.live.gen.retain()
	return &View{
		gen: s.live.gen, snap: s.live.gen.db.NewSnapshot(), tables: s.live.tables, applied: s.live.applied,
		index: s.live.applied.Index,
	}, nil
}

// Close lets the state go.
func (v *View) Close() error {
	err := v.snap.Close()
	v.gen.release()
	return err
}

// Index is the raft index that the view is of.
func (v *View) Index() uint64 { return v.index }

// ClusterID is the cluster's id, "" before its first event.
func (v *View) ClusterID() string { return v.applied.ClusterId }

// Digests are those of the replicated families at this index, sorted by name.
func (v *View) Digests() []*pb.AppliedRecord_Digest { return v.applied.Digests }

// Domains lists the relay domains, sorted by name.
func (v *View) Domains() []*pb.DomainConfig { return list(v.tables.domains) }

// Domain finds a relay domain by its name in lower case.
func (v *View) Domain(name string) (*pb.DomainConfig, bool) { return lookup(v.tables.domains, name) }

// RouteOf is the relay domain that mail to an address goes by, and whether it is
// configured.
func (v *View) RouteOf(address string) (domain string, found bool) { return v.tables.routeOf(address) }

// Destinations lists the destinations, sorted by name.
func (v *View) Destinations() []*pb.DestinationRecord { return list(v.tables.destinations) }

// Destination finds a destination with its health.
func (v *View) Destination(name string) (*pb.DestinationRecord, bool) {
	return lookup(v.tables.destinations, name)
}

// Nodes lists the nodes, sorted by name.
func (v *View) Nodes() []*pb.NodeRecord { return list(v.tables.nodes) }

// Eligible names the nodes among which destinations are shared.
func (v *View) Eligible() []string { return slices.Clone(v.tables.eligible) }

// Owner is the node that delivers to a destination.
func (v *View) Owner(destination string) (node string, ok bool) {
	record, ok := lookup(v.tables.destinations, destination)
	if !ok {
		return "", false
	}
	node = v.tables.owner(record)
	return node, node != ""
}

// DomainCounter counts the recipients of a domain.
func (v *View) DomainCounter(name string) *pb.CounterRecord {
	return v.counter('d', name)
}

// DestinationCounter counts the recipients at a destination.
func (v *View) DestinationCounter(name string) *pb.CounterRecord {
	return v.counter('D', name)
}

// CountedDomains names the domains that have a counter, sorted: also those that
// reports went to and that were never configured.
func (v *View) CountedDomains() []string { return v.counted('d') }

// CountedDestinations names the destinations that have a counter, sorted; "" is
// that of recipients without one.
func (v *View) CountedDestinations() []string { return v.counted('D') }

func (v *View) counted(kind byte) []string {
	var names []string
	prefix := keyOfCounter(kind, "")
	v.tables.counters.Root().WalkPrefix(prefix, func(key []byte, _ *pb.CounterRecord) bool {
		names = append(names, string(key[len(prefix):]))
		return false
	})
	return names
}

func (v *View) counter(kind byte, name string) *pb.CounterRecord {
	if c, ok := v.tables.counters.Get(keyOfCounter(kind, name)); ok {
		return c
	}
	return &pb.CounterRecord{}
}

// Counters sums up all domains.
func (v *View) Counters() *pb.CounterRecord {
	total := &pb.CounterRecord{}
	prefix := keyOfCounter('d', "")
	v.tables.counters.Root().WalkPrefix(prefix, func(_ []byte, c *pb.CounterRecord) bool {
		total.Pending += c.Pending
		total.Held += c.Held
		total.Frozen += c.Frozen
		total.Delivered += c.Delivered
		total.Ended += c.Ended
		total.InDoubt += c.InDoubt
		total.Duplicates += c.Duplicates
		total.Undoable += c.Undoable
		return false
	})
	return total
}

// Message reads a message's record, or ErrNotFound.
func (v *View) Message(id relay.MessageID) (*pb.MessageRecord, error) {
	record := &pb.MessageRecord{}
	err := readRow(v.snap, keyOfID(famMessages, id), record)
	if err == nil && record.AcceptedIndex > v.index {
		err = ErrNotFound
	}
	return record, err
}

// Recipient reads one recipient of a message, or ErrNotFound.
func (v *View) Recipient(id relay.MessageID, number uint32) (*pb.RecipientRecord, error) {
	if v.past {
		return v.recipientAt(id, number, v.index)
	}
	record := &pb.RecipientRecord{}
	return record, readRow(v.snap, keyOfPart(famRecipients, id, number), record)
}

// Recipients reads a message's recipients in the order of RCPT.
func (v *View) Recipients(id relay.MessageID) ([]*pb.RecipientRecord, error) {
	if v.past {
		return v.recipientsAt(id)
	}
	var records []*pb.RecipientRecord
	err := scan(v.snap, keyOfID(famRecipients, id), func(_, value []byte) error {
		record := &pb.RecipientRecord{}
		records = append(records, record)
		return proto.Unmarshal(value, record)
	})
	return records, err
}
