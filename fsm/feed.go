package fsm

import (
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// QueueKey is a place in a lane of a destination's queue: order of due time.
type QueueKey []byte

// Lowest has the smallest key of each lane, nil for a lane without one.
type Lowest [Lanes]QueueKey

// Changes is what a scheduler has to look at again.
type Changes struct {
	// Granted are claims of this node's incarnation that hold since the last call.
	Granted []Grant
	// Lowered has, by destination, the smallest queue keys inserted: a cursor that
	// is past one must go back to it.
	Lowered map[string]Lowest
	// Destinations changed in configuration or health.
	Destinations map[string]bool
	// Topology: nodes changed, or the whole state was replaced. Cursors are void.
	Topology bool
}

// feed collects changes for the one scheduler of the node. Apply never waits
// for it: what it doesn't fetch is merged, and bounded by the slots and the
// number of destinations.
type feed struct {
	mu      sync.Mutex // guards changes
	changes Changes
	wake    chan struct{}
	nodes   chan struct{}
	bulks   chan struct{}
}

// staged is what a batch will tell readers once it is committed.
type staged struct {
	changes       Changes
	marks         []*pb.DigestResponse
	nonces        []string
	nodesChanged  bool
	bulksChanged  bool
	configuration *pb.ConfigurationRecord
}

func (f *feed) init() {
	f.wake = make(chan struct{}, 1)
	f.nodes = make(chan struct{}, 1)
	f.bulks = make(chan struct{}, 1)
}

func (f *feed) reset() {
	f.publish(&staged{nodesChanged: true, changes: Changes{Topology: true}})
}

func (f *feed) publish(s *staged) {
	if s.nodesChanged {
		s.changes.Topology = true
		kick(f.nodes)
	}
	if s.bulksChanged {
		kick(f.bulks)
	}
	c := &s.changes
	if len(c.Granted) == 0 && len(c.Lowered) == 0 && len(c.Destinations) == 0 && !c.Topology {
		return
	}
	f.mu.Lock()
	f.changes.merge(c)
	f.mu.Unlock()
	kick(f.wake)
}

func (c *Changes) merge(more *Changes) {
	c.Granted = append(c.Granted, more.Granted...)
	c.Topology = c.Topology || more.Topology
	for destination, lowest := range more.Lowered {
		for _, key := range lowest {
			if key != nil {
				c.lower(destination, key)
			}
		}
	}
	for destination := range more.Destinations {
		c.touch(destination)
	}
}

func (c *Changes) lower(destination string, key QueueKey) {
	if c.Lowered == nil {
		c.Lowered = make(map[string]Lowest)
	}
	lowest := c.Lowered[destination]
	if old := lowest[key.lane()]; old == nil || slices.Compare(key, old) < 0 {
		lowest[key.lane()] = key
		c.Lowered[destination] = lowest
	}
}

func (c *Changes) touch(destination string) {
	if c.Destinations == nil {
		c.Destinations = make(map[string]bool)
	}
	c.Destinations[destination] = true
}

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Changed has an element whenever Changes has something to fetch. One consumer.
func (s *State) Changed() <-chan struct{} { return s.feed.wake }

// TakeChanges fetches what has changed since the last call.
func (s *State) TakeChanges() Changes {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	taken := s.feed.changes
	s.feed.changes = Changes{}
	return taken
}

// NodesChanged has an element after a change to any node's record. One consumer.
func (s *State) NodesChanged() <-chan struct{} { return s.feed.nodes }

// BulksChanged has an element after a bulk operation has started. One consumer.
func (s *State) BulksChanged() <-chan struct{} { return s.feed.bulks }

// Node is the current record of a node.
func (s *State) Node(name string) (*pb.NodeRecord, bool) {
	t := s.published()
	return lookup(t.nodes, name)
}

// Nodes lists all nodes, sorted by name.
func (s *State) Nodes() []*pb.NodeRecord {
	t := s.published()
	return list(t.nodes)
}

// Domain finds a relay domain by its name in lower case.
func (s *State) Domain(name string) (*pb.DomainConfig, bool) {
	t := s.published()
	return lookup(t.domains, name)
}

// RouteOf is the relay domain that mail to an address goes by, and whether it is
// configured.
func (s *State) RouteOf(address string) (domain string, found bool) {
	t := s.published()
	return t.routeOf(address)
}

// Configured reports whether there is any relay domain.
func (s *State) Configured() bool {
	t := s.published()
	return t.domains.Len() > 0
}

// Destination finds a destination with its health.
func (s *State) Destination(name string) (*pb.DestinationRecord, bool) {
	t := s.published()
	return lookup(t.destinations, name)
}

// Destinations lists all destinations, sorted by name.
func (s *State) Destinations() []*pb.DestinationRecord {
	t := s.published()
	return list(t.destinations)
}

// Domains lists all relay domains, sorted by name.
func (s *State) Domains() []*pb.DomainConfig {
	t := s.published()
	return list(t.domains)
}

// Owner is the node that delivers to a destination now.
func (s *State) Owner(destination string) (node string, ok bool) {
	t := s.published()
	record, ok := lookup(t.destinations, destination)
	if !ok {
		return "", false
	}
	node = t.owner(record)
	return node, node != ""
}

// marks keeps the digests of the latest VerifyMarked events.
type marks struct {
	mu   sync.Mutex // guards kept
	kept []mark
}

type mark struct {
	nonce  string
	digest *pb.DigestResponse
}

// maxMarks bounds how many runs of verify can overlap.
const maxMarks = 16

func (m *marks) add(nonces []string, digests []*pb.DigestResponse) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range nonces {
		m.kept = append(m.kept, mark{nonce: nonces[i], digest: digests[i]})
	}
	m.kept = m.kept[max(0, len(m.kept)-maxMarks):]
}

// MarkedDigests are the digests as of the VerifyMarked event with the nonce,
// if this node has applied it lately.
func (s *State) MarkedDigests(nonce []byte) (*pb.DigestResponse, bool) {
	s.marks.mu.Lock()
	defer s.marks.mu.Unlock()
	for _, m := range s.marks.kept {
		if m.nonce == string(nonce) {
			return proto.Clone(m.digest).(*pb.DigestResponse), true
		}
	}
	return nil, false
}
