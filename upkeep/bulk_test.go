package upkeep_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/admintest"
	"holdfast/upkeep"
)

// alone is a state whose leader this is: what is proposed is folded at once.
type alone struct {
	t     *testing.T
	dir   string
	state *fsm.State
	// keeper is there once it keeps.
	keeper *upkeep.Keeper
	// spoil may answer in the cluster's place.
	spoil func(event *pb.Event) (*pb.EventResult, error)
	log   io.Writer // of the keeper; nil: the test's output

	mu     sync.Mutex // guards what follows, and folding
	index  uint64
	handed int // how often it gave leadership away
	away   bool
}

func startAlone(t *testing.T) *alone {
	t.Helper()
	w := &alone{t: t, dir: t.TempDir()}
	w.open()
	t.Cleanup(func() { must(t, w.state.Close()) })
	w.fold(&pb.Event{Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{Node: "a", Incarnation: 1}}}, nil)
	w.fold(&pb.Event{Kind: &pb.Event_DestinationSet{DestinationSet: &pb.DestinationSet{Destination: &pb.DestinationConfig{
		Name: "office", Slots: 20, Hosts: []*pb.DestinationConfig_Host{{Address: "mail.test:25"}},
	}}}}, nil)
	for _, name := range []string{"one.test", "two.test"} {
		w.fold(&pb.Event{Kind: &pb.Event_DomainSet{DomainSet: &pb.DomainSet{Domain: &pb.DomainConfig{
			Name: name, Destination: "office", Policy: relay.DefaultPolicy,
		}}}}, nil)
	}
	return w
}

func (w *alone) open() {
	w.t.Helper()
	var err error
	w.state, err = fsm.Open(fsm.Config{
		Dir: w.dir, Node: "a", Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
		Fatal: func(err error) { w.t.Errorf("state: %v", err) },
	})
	must(w.t, err)
}

func (w *alone) fold(event *pb.Event, payload []byte) (*pb.EventResult, uint64) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index++
	event.Incarnation, event.Sequence, event.Time = 1, w.index, admintest.Now.UnixNano()
	data, err := fsm.EncodeEntry([]*pb.Event{event}, [][]byte{payload})
	must(w.t, err)
	applied := w.state.ApplyBatch([]*raft.Log{{Index: w.index, Term: 1, Type: raft.LogCommand, Data: data}})[0].(*fsm.Applied)
	return applied.Results[0], w.index
}

func (w *alone) Leads() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.away
}

func (w *alone) HandOver(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handed++
	w.away = true
	return nil
}

// leadsAgain gives leadership back, and how often it was given away.
func (w *alone) leadsAgain() (handed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = false
	return w.handed
}

func (w *alone) Propose(_ context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error) {
	if w.spoil != nil {
		if result, err := w.spoil(event); result != nil || err != nil {
			return result, 0, err
		}
	}
	result, index := w.fold(event, payload)
	return result, index, nil
}

func (w *alone) accept(n byte, to string) relay.MessageID {
	w.t.Helper()
	id, body := relay.MessageID{n}, []byte("Subject: test\r\n\r\n")
	result, _ := w.fold(&pb.Event{Kind: &pb.Event_MessageAccepted{MessageAccepted: &pb.MessageAccepted{
		MessageId: id[:], Envelope: &pb.Envelope{From: "s@x.test"}, Recipients: []*pb.Recipient{{Address: to}},
		Content: &pb.Content{Size: uint64(len(body)), Crc32C: crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))},
	}}}, body)
	if result.Code != pb.EventResult_CODE_OK {
		w.t.Fatal(result)
	}
	return id
}

// hold begins to hold all mail of a domain.
func (w *alone) hold(n byte, domain string) relay.MessageID {
	w.t.Helper()
	id := relay.MessageID{n}
	result, _ := w.fold(&pb.Event{Kind: &pb.Event_BulkStarted{BulkStarted: &pb.BulkStarted{
		BulkId: id[:], Filter: &pb.BulkFilter{Domain: domain},
		Operation: &pb.Operation{Kind: pb.Operation_KIND_HOLD, By: "operator"},
	}}}, nil)
	if result.Code != pb.EventResult_CODE_OK {
		w.t.Fatal(result)
	}
	return id
}

func (w *alone) keep() {
	w.t.Helper()
	w.keepIn(w)
}

// keepIn keeps it as a member of a cluster.
func (w *alone) keepIn(cluster upkeep.Cluster) {
	w.t.Helper()
	keeper, err := upkeep.New(upkeep.Config{
		State: w.state, Cluster: cluster, Now: func() time.Time { return admintest.Now },
		Logger: slog.New(slog.NewTextHandler(cmp.Or(w.log, w.t.Output()), nil)), Metrics: prometheus.NewRegistry(),
	})
	must(w.t, err)
	w.keeper = keeper
	ctx, stop := context.WithCancel(w.t.Context())
	kept := make(chan error, 1)
	go func() { kept <- keeper.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		must(w.t, <-kept)
	})
}

func (w *alone) bulk(id relay.MessageID) *pb.BulkRecord {
	w.t.Helper()
	view, err := w.state.View()
	must(w.t, err)
	defer func() { must(w.t, view.Close()) }()
	record, err := view.Bulk(id)
	must(w.t, err)
	return record
}

func (w *alone) ended(id relay.MessageID) *pb.BulkRecord {
	w.t.Helper()
	eventually(w.t, "the operation has ended", func() error {
		if w.bulk(id).FinishedAt == 0 {
			return errors.New("it is under way")
		}
		return nil
	})
	return w.bulk(id)
}

// An operation whose piece is refused ends and says why, and the one behind it is
// carried out.
func TestRefusedBulkBlocksNobody(t *testing.T) {
	w := startAlone(t)
	w.accept(1, "r@one.test")
	w.accept(2, "r@two.test")
	bad, good := w.hold(3, "one.test"), w.hold(4, "two.test")
	w.spoil = func(event *pb.Event) (*pb.EventResult, error) {
		if e := event.GetBulkProgressed(); e != nil && string(e.BulkId) == string(bad[:]) && e.Failure == "" {
			return &pb.EventResult{Code: pb.EventResult_CODE_INVALID, Text: "no such piece"}, nil
		}
		return nil, nil
	}
	w.keep()
	if b := w.ended(bad); !strings.Contains(b.Failure, "no such piece") || b.Changed != 0 {
		t.Errorf("the refused one: %v", b)
	}
	if b := w.ended(good); b.Failure != "" || b.Changed != 1 {
		t.Errorf("the other one: %v", b)
	}
}

// Where another node has carried the operation on meanwhile it doesn't end, and
// nobody is told that it failed.
func TestBulkThatWentOnElsewhereDoesNotFail(t *testing.T) {
	w := startAlone(t)
	w.accept(1, "r@one.test")
	id := w.hold(2, "one.test")
	log := &written{}
	w.log = log
	refused, stale := false, false
	w.spoil = func(event *pb.Event) (*pb.EventResult, error) {
		switch {
		case !refused:
			refused = true
			return &pb.EventResult{Code: pb.EventResult_CODE_INVALID, Text: "no such piece"}, nil
		case !stale:
			stale = event.GetBulkProgressed().GetFailure() != ""
			return &pb.EventResult{Code: pb.EventResult_CODE_STALE}, nil
		}
		return nil, nil
	}
	w.keep()
	if b := w.ended(id); b.Failure != "" || b.Changed != 1 {
		t.Errorf("%v", b)
	}
	if text := log.String(); strings.Contains(text, "failed") {
		t.Errorf("the log says %s", text)
	}
}

// written is a log that can be read while it is written.
type written struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// One that this node can't read on holds up none of the others and never ends by
// that: another node is to try, once; and it can be stopped.
func TestUnreadableBulkBlocksNobody(t *testing.T) {
	t.Parallel() // it waits most of the time
	w := startAlone(t)
	damaged := w.accept(1, "r@one.test")
	w.accept(2, "r@two.test")
	bad := w.hold(3, "one.test")
	w.spoilRow('r', append(damaged[:], 0, 0, 0, 0))
	good := w.hold(4, "two.test")
	log := &written{}
	w.log = log
	w.keep()
	if b := w.ended(good); b.Failure != "" || b.Changed != 1 {
		t.Errorf("the other one: %v", b)
	}
	tried := func(times int) {
		t.Helper()
		eventually(t, fmt.Sprintf("it is tried %d times", times), func() error {
			if got := strings.Count(log.String(), "can't read a bulk operation on"); got < times {
				return fmt.Errorf("tried %d times", got)
			}
			return nil
		})
	}
	tried(3)
	eventually(t, "another node is to carry it on", func() error {
		if !strings.Contains(log.String(), "gave leadership away") {
			return errors.New(log.String())
		}
		return nil
	})
	if handed := w.leadsAgain(); handed != 1 {
		t.Errorf("leadership was given away %d times", handed)
	}
	tried(6)
	if stuck := w.keeper.Stuck(); !slices.Equal(stuck, []string{bad.String()}) {
		t.Errorf("stuck are %q", stuck)
	}
	if b := w.bulk(bad); b.FinishedAt != 0 || w.leadsAgain() != 1 {
		t.Errorf("given away %d times; the operation: %v", w.leadsAgain(), b)
	}
	w.fold(&pb.Event{By: "ann", Kind: &pb.Event_BulkStopped{BulkStopped: &pb.BulkStopped{BulkId: bad[:]}}}, nil)
	if b := w.ended(bad); !b.Stopped || b.Changed != 0 {
		t.Errorf("stopped: %v", b)
	}
	eventually(t, "it isn't stuck any more", func() error {
		if stuck := w.keeper.Stuck(); len(stuck) > 0 {
			return fmt.Errorf("stuck are %q", stuck)
		}
		return nil
	})
}

// spoilRow makes a row unreadable.
func (w *alone) spoilRow(family byte, rest []byte) {
	w.t.Helper()
	t := w.t
	must(t, w.state.Close())
	generations, err := filepath.Glob(filepath.Join(w.dir, "gen-*"))
	must(t, err)
	if len(generations) != 1 {
		t.Fatalf("generations %v", generations)
	}
	db, err := pebble.Open(generations[0], &pebble.Options{
		FormatMajorVersion: pebble.FormatValueSeparation, DisableWAL: true, Logger: quiet{},
	})
	must(t, err)
	key := append([]byte{family}, rest...)
	_, closer, err := db.Get(key)
	must(t, err)
	must(t, closer.Close())
	must(t, db.Set(key, []byte{0xff}, pebble.NoSync))
	must(t, db.Flush())
	must(t, db.Close())
	w.open()
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}

// While there is no quorum nothing ends before its time.
func TestBulkWaitsForAQuorum(t *testing.T) {
	w := startAlone(t)
	w.accept(1, "r@one.test")
	id := w.hold(2, "one.test")
	left := 7
	w.spoil = func(*pb.Event) (*pb.EventResult, error) {
		if left--; left > 0 {
			return nil, admintest.ErrNoQuorum
		}
		return nil, nil
	}
	w.keep()
	if b := w.ended(id); b.Failure != "" || b.Changed != 1 {
		t.Errorf("%v", b)
	}
}
