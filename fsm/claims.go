package fsm

import (
	"encoding/binary"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// claims are the live claims of all nodes. They are few, at most twice the
// slots of each destination, so they are kept in memory beside their rows.
type claims struct {
	mu            sync.RWMutex // guards the fields below; Apply alone writes
	byIncarnation map[uint64]map[uint64]*pb.ClaimRecord
	byDestination map[string]map[uint64]int // destination, incarnation: how many
}

func (c *claims) load(db pebble.Reader) error {
	found := claims{
		byIncarnation: make(map[uint64]map[uint64]*pb.ClaimRecord),
		byDestination: make(map[string]map[uint64]int),
	}
	err := scan(db, []byte{byte(famClaims)}, func(key, value []byte) error {
		record := &pb.ClaimRecord{}
		if err := proto.Unmarshal(value, record); err != nil {
			return err
		}
		found.add(binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(key[9:]), record)
		return nil
	})
	if err != nil {
		return err
	}
	// In one step: a reader must not miss a claim that is live before and after.
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byIncarnation, c.byDestination = found.byIncarnation, found.byDestination
	return nil
}

func (c *claims) get(incarnation, attempt uint64) (*pb.ClaimRecord, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	record, ok := c.byIncarnation[incarnation][attempt]
	return record, ok
}

func (c *claims) add(incarnation, attempt uint64, record *pb.ClaimRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	attempts := c.byIncarnation[incarnation]
	if attempts == nil {
		attempts = make(map[uint64]*pb.ClaimRecord)
		c.byIncarnation[incarnation] = attempts
	}
	if _, ok := attempts[attempt]; !ok {
		counts := c.byDestination[record.Destination]
		if counts == nil {
			counts = make(map[uint64]int)
			c.byDestination[record.Destination] = counts
		}
		counts[incarnation]++
	}
	attempts[attempt] = record
}

func (c *claims) remove(incarnation, attempt uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	record, ok := c.byIncarnation[incarnation][attempt]
	if !ok {
		return
	}
	delete(c.byIncarnation[incarnation], attempt)
	if len(c.byIncarnation[incarnation]) == 0 {
		delete(c.byIncarnation, incarnation)
	}
	counts := c.byDestination[record.Destination]
	if counts[incarnation]--; counts[incarnation] == 0 {
		delete(counts, incarnation)
	}
	if len(counts) == 0 {
		delete(c.byDestination, record.Destination)
	}
}

// attempts lists the attempts of an incarnation in ascending order.
func (c *claims) attempts(incarnation uint64) []uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	list := make([]uint64, 0, len(c.byIncarnation[incarnation]))
	for attempt := range c.byIncarnation[incarnation] {
		list = append(list, attempt)
	}
	return sorted(list)
}

// hasProbe reports whether a destination's probe is under way.
func (c *claims) hasProbe(destination string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for incarnation := range c.byDestination[destination] {
		for _, record := range c.byIncarnation[incarnation] {
			if record.Probe && record.Destination == destination {
				return true
			}
		}
	}
	return false
}

// Grant is a claim that holds: its incarnation may make one attempt.
type Grant struct {
	Claim  *pb.ClaimRef
	Record *pb.ClaimRecord
}

// Claims lists the live claims of an incarnation.
func (s *State) Claims(incarnation uint64) []Grant {
	attempts := s.claims.attempts(incarnation)
	grants := make([]Grant, 0, len(attempts))
	for _, attempt := range attempts {
		if record, ok := s.claims.get(incarnation, attempt); ok {
			grants = append(grants, Grant{
				Claim: &pb.ClaimRef{Incarnation: incarnation, Attempt: attempt}, Record: record,
			})
		}
	}
	return grants
}

// ForeignClaims counts the live claims on a destination that other incarnations
// hold: slots in use elsewhere.
func (s *State) ForeignClaims(destination string, incarnation uint64) int {
	s.claims.mu.RLock()
	defer s.claims.mu.RUnlock()
	n := 0
	for owner, count := range s.claims.byDestination[destination] {
		if owner != incarnation {
			n += count
		}
	}
	return n
}

// Probing reports whether a node holds the claim of a destination's probe.
func (s *State) Probing(destination string) bool { return s.claims.hasProbe(destination) }

func sorted(list []uint64) []uint64 {
	slices.Sort(list)
	return list
}

// HoldsClaim reports whether a claim is live.
func (s *State) HoldsClaim(claim *pb.ClaimRef) bool {
	_, ok := s.claims.get(claim.Incarnation, claim.Attempt)
	return ok
}
