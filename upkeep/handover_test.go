package upkeep_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// trio are three nodes with a copy of the state each. Leadership goes round, as the
// cluster has it.
type trio struct {
	nodes []*alone

	mu    sync.Mutex // guards what follows, and folding
	leads int
	gave  []string // who gave leadership away
}

// member is one of them as its keeper sees the cluster.
type member struct {
	*trio
	n int
}

func (m member) Leads() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leads == m.n
}

func (m member) HandOver(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gave = append(m.gave, string(rune('a'+m.n)))
	m.leads = (m.n + 1) % len(m.nodes)
	return nil
}

// Propose kills c for a moment after its first piece: a leads then.
func (m member) Propose(_ context.Context, event *pb.Event, payload []byte) (result *pb.EventResult, index uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, node := range m.nodes {
		result, index = node.fold(proto.CloneOf(event), payload)
	}
	if m.n == 2 && len(m.gave) == 2 {
		m.leads = 0
	}
	return result, index, nil
}

// Two of three nodes can't read an operation on: each gives leadership to the next,
// so that the third comes to carry it on. It dies after a piece: the first, which
// gave leadership away before, does so again, since the operation has moved.
func TestWhoCanReadCarriesOn(t *testing.T) {
	t.Parallel() // it waits most of the time
	c := &trio{}
	for range 3 {
		c.nodes = append(c.nodes, startAlone(t))
	}
	var bulk relay.MessageID
	for i, node := range c.nodes {
		one, two := node.acceptMany(1), node.acceptMany(2)
		bulk = node.hold(3, "one.test")
		if i < 2 {
			node.spoilRow('r', append(one[:], 0, 0, 0, ofOne))
			node.spoilRow('r', append(two[:], 0, 0, 0, ofOne))
		}
	}
	for i, node := range c.nodes {
		node.keepIn(member{c, i})
	}
	if b := c.nodes[2].ended(bulk); b.Failure != "" || b.Changed != 2*ofOne {
		t.Errorf("in the end: %v", b)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := strings.Join(c.gave, ""); got != "abab" {
		t.Errorf("leadership was given away by %q, want each sick node for each place", got)
	}
}

// ofOne is how many recipients fill a piece.
const ofOne = 200

// acceptMany takes a message for a piece of recipients, and one of another domain:
// an operation on the piece reads that one, and the log doesn't change it.
func (w *alone) acceptMany(n byte) relay.MessageID {
	w.t.Helper()
	id, body := relay.MessageID{n}, []byte("Subject: test\r\n\r\n")
	var to []*pb.Recipient
	for i := range ofOne {
		to = append(to, &pb.Recipient{Address: fmt.Sprintf("r%d@one.test", i)})
	}
	to = append(to, &pb.Recipient{Address: "r@two.test"})
	result, _ := w.fold(&pb.Event{Kind: &pb.Event_MessageAccepted{MessageAccepted: &pb.MessageAccepted{
		MessageId: id[:], Envelope: &pb.Envelope{From: "s@x.test"}, Recipients: to,
		Content: &pb.Content{Size: uint64(len(body)), Crc32C: crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))},
	}}}, body)
	if result.Code != pb.EventResult_CODE_OK {
		w.t.Fatal(result)
	}
	return id
}

// A node that can't read which operations there are gives leadership away for that,
// too, and is known to.
func TestUnreadableListOfBulks(t *testing.T) {
	t.Parallel() // it waits most of the time
	w := startAlone(t)
	w.accept(1, "r@one.test")
	id := w.hold(2, "one.test")
	w.spoilRow('b', id[:])
	log := &written{}
	w.log = log
	w.keep()
	eventually(t, "another node is to lead", func() error {
		if w.Leads() {
			return errors.New(log.String())
		}
		return nil
	})
	if handed := w.leadsAgain(); handed != 1 || strings.Count(log.String(), "can't read a bulk operation on") != 3 {
		t.Errorf("given away %d times, the log says %s", handed, log)
	}
	eventually(t, "it is stuck once it leads again", func() error {
		if stuck := w.keeper.Stuck(); !slices.Equal(stuck, []string{""}) {
			return fmt.Errorf("stuck are %q", stuck)
		}
		return nil
	})
	if handed := w.leadsAgain(); handed != 1 {
		t.Errorf("given away %d times", handed)
	}
}
