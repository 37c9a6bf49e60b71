// Package admintest serves a real state over real gRPC on a socket, for tests
// of the services and of the command line. What a cluster does is reduced to
// folding one event after the other.
package admintest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"holdfast/admin"
	"holdfast/cluster"
	"holdfast/delivery"
	"holdfast/delivery/smtpout"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/upkeep"
)

// Now is the time in a World.
var Now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var errUnreachable = errors.New("connection refused")

// World is node a of a cluster of a, b and c. It implements admin.Cluster.
type World struct {
	t     testing.TB
	State *fsm.State
	// Flow samples when a test says so.
	Flow *admin.Flow
	// Socket is the admin socket, as --addr takes it.
	Socket string

	patience time.Duration

	access *admin.Access
	server *grpc.Server // the latest
	// StopServing ends the services, as the node's death would.
	StopServing func()

	mu        sync.Mutex // guards the fields below, and folding
	index     uint64
	sequence  uint64
	ids       uint64
	lost      error
	resting   bool // the upkeep
	behind    error
	lagging   bool
	unfolded  []func() (*pb.EventResult, uint64, error) // while lagging
	overtaken bool
	late      func()
	meanwhile func()
	barrier   error
	tampered  string
	health    admin.Health
	proposed  []*pb.Event
	damaged   string
	passed    time.Duration
	log       bytes.Buffer
	announced []*pb.StateMismatch
	stuck     []string
	answers   map[string]*pb.CheckRecipientResponse
}

// Start serves an empty state until the test ends.
func Start(t testing.TB) *World {
	t.Helper()
	return StartImpatient(t, 5*time.Second)
}

// StartImpatient is Start with services that wait less for the cluster.
func StartImpatient(t testing.TB, patience time.Duration) *World {
	t.Helper()
	// A socket's path must be short, so not in t.TempDir.
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	state, err := fsm.Open(fsm.Config{
		Dir: filepath.Join(dir, "state"), Node: "a", Logger: slog.New(slog.DiscardHandler),
		Metrics: prometheus.NewRegistry(), Fatal: func(err error) { t.Errorf("state: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, state.Close()) })
	w := &World{t: t, State: state, Flow: admin.NewFlow(state), patience: patience, Socket: "unix:" + filepath.Join(dir, admin.SocketName)}
	for i, name := range []string{"a", "b"} {
		w.FoldAs(uint64(i+1), 0, &pb.Event{Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{
			Node: name, Incarnation: uint64(i + 1), Version: "v1.0.0",
			AdminAddress: "127.0.0.1:750" + string(rune('0'+i)), SmtpAddress: "127.0.0.1:252" + string(rune('5'+i)),
		}}}, nil)
	}
	w.serve(dir)
	w.keep()
	return w
}

// tryDelivery makes a test delivery as a node does.
func tryDelivery(ctx context.Context, t admin.Trial, tell func(*pb.TestDestinationResponse) error) error {
	trial := delivery.Trial{
		Dialer: &smtpout.Dialer{LocalName: "a.relay.test"}, Config: t.Config, From: t.From, Recipients: t.Recipients,
		Send: t.Send, Now: time.Now, Tell: tell,
	}
	return trial.Run(ctx)
}

// keep does the upkeep of a leader.
func (w *World) keep() {
	keeper, err := upkeep.New(upkeep.Config{
		State: w.State, Cluster: leader{w}, Now: func() time.Time { return Now },
		Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.t.Context())
	kept := make(chan error, 1)
	go func() { kept <- keeper.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		check(w.t, <-kept)
	})
}

// leader is what the upkeep sees of the world.
type leader struct{ *World }

// Leads is true until LoseQuorum, and while the upkeep doesn't rest.
func (l leader) Leads() bool { return l.Leased() && !l.rests() }

// HandOver has nobody to hand over to.
func (l leader) HandOver(context.Context) error { return cluster.ErrNoQuorum }

func (l leader) Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error) {
	if l.rests() || l.lags() {
		return nil, 0, ErrNoQuorum
	}
	return l.World.Propose(ctx, event, payload)
}

// RestUpkeep has bulk operations that begin from now on stay under way.
func (w *World) RestUpkeep() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resting = true
}

func (w *World) rests() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.resting
}

func (w *World) serve(dir string) {
	w.access = admin.NewAccess(admin.AccessConfig{
		State: w.State, Logger: w.logger(), Metrics: prometheus.NewRegistry(), Now: w.now,
	})
	w.t.Cleanup(w.access.Close)
	listener, err := admin.ListenSocket(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.serveOn(listener)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// ErrNoQuorum is how a proposal fails that never went into the log.
var ErrNoQuorum = fmt.Errorf("%w: %w", cluster.ErrNoQuorum, context.DeadlineExceeded)

// LoseQuorum makes proposals fail as they do without a quorum.
func (w *World) LoseQuorum(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = err
}

// FallBehind makes waiting for every node fail.
func (w *World) FallBehind(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behind = err
}

// LagBehind has what is proposed take effect in the log, and in node a's own state only
// with CatchUp. Services that are served from then on wait 20 ms for that.
func (w *World) LagBehind() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lagging = true
}

func (w *World) lags() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lagging
}

// CatchUp ends LagBehind.
func (w *World) CatchUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, fold := range w.unfolded {
		if result, index, err := fold(); err != nil || result.Code != pb.EventResult_CODE_OK {
			w.t.Errorf("index %d: %v, %v", index, result, err)
		}
	}
	w.lagging, w.unfolded = false, nil
}

// Overtake has what is proposed from then on be refused as stale: another change came
// first, to which node a doesn't come.
func (w *World) Overtake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.overtaken = true
}

// SetStuck has node a, which leads, be unable to read bulk operations on.
func (w *World) SetStuck(ids ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stuck = ids
}

// SetHealth changes what node a knows of itself.
func (w *World) SetHealth(h admin.Health) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.health = h
}

// Health is what SetHealth said.
func (w *World) Health() admin.Health {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.health
}

// Tamper makes node b report another digest for a family.
func (w *World) Tamper(family string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tampered = family
}

// Proposed lists the events that the services proposed.
func (w *World) Proposed() []*pb.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.proposed[:len(w.proposed):len(w.proposed)]
}

// Fold applies an event of node a at Now and wants it to take effect.
func (w *World) Fold(event *pb.Event, payload []byte) {
	w.t.Helper()
	w.FoldAs(1, 0, event, payload)
}

// FoldAs applies an event of an incarnation, at a time from Now.
func (w *World) FoldAs(incarnation uint64, at time.Duration, event *pb.Event, payload []byte) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	result, _, err := w.fold(incarnation, Now.Add(at), event, payload)
	if err != nil || result.Code != pb.EventResult_CODE_OK {
		w.t.Fatalf("%T: %v %v", event.Kind, result, err)
	}
}

func (w *World) fold(incarnation uint64, at time.Time, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error) {
	w.sequence++
	event.Incarnation, event.Sequence, event.Time = incarnation, w.sequence, at.UnixNano()
	data, err := fsm.EncodeEntry([]*pb.Event{event}, [][]byte{payload})
	if err != nil {
		return nil, 0, err
	}
	w.index++
	log := &raft.Log{Index: w.index, Term: 1, Type: raft.LogCommand, Data: data}
	switch response := w.State.ApplyBatch([]*raft.Log{log})[0].(type) {
	case *fsm.Applied:
		return response.Results[0], w.index, nil
	case error:
		return nil, 0, response
	}
	return nil, 0, errors.New("no response")
}

// Propose folds an event of node a.
func (w *World) Propose(_ context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost != nil {
		return nil, 0, w.lost
	}
	w.proposed = append(w.proposed, proto.CloneOf(event))
	if w.overtaken {
		return &pb.EventResult{Code: pb.EventResult_CODE_STALE, Text: "changed meanwhile"}, w.index + 1, nil
	}
	if w.lagging {
		w.unfolded = append(w.unfolded, func() (*pb.EventResult, uint64, error) { return w.fold(1, Now, event, payload) })
		return &pb.EventResult{Code: pb.EventResult_CODE_OK}, w.index + uint64(len(w.unfolded)), nil
	}
	return w.fold(1, Now, event, payload)
}

// WaitEverywhere has nothing to wait for: folding is immediate.
func (w *World) WaitEverywhere(context.Context, uint64) error {
	w.mu.Lock()
	meanwhile, behind := w.meanwhile, w.behind
	w.meanwhile = nil
	w.mu.Unlock()
	if meanwhile != nil {
		meanwhile()
	}
	return behind
}

// Meanwhile has something happen between the next change and the look at what it came to.
func (w *World) Meanwhile(happens func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.meanwhile = happens
}

// ArriveLate has events be on their way to node a: they are folded when a
// barrier is waited for. It fails with err where that isn't nil.
func (w *World) ArriveLate(fold func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late, w.barrier = fold, err
}

// Barrier is behind what ArriveLate says, and what LagBehind keeps back. There is none
// without a quorum.
func (w *World) Barrier(ctx context.Context) error {
	w.mu.Lock()
	late, err, last := w.late, cmp.Or(w.barrier, w.lost), w.index+uint64(len(w.unfolded))
	w.late = nil
	w.mu.Unlock()
	switch {
	case err != nil:
		return err
	case late != nil:
		late()
		return nil
	}
	return w.State.WaitApplied(ctx, last)
}

// Leased is true until LoseQuorum.
func (w *World) Leased() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost == nil
}

// Leader is a until LoseQuorum.
func (w *World) Leader() string {
	if w.Leased() {
		return "a"
	}
	return ""
}

// Members are a, b, and c, which doesn't answer.
func (w *World) Members(context.Context) []admin.Member {
	applied := w.State.AppliedIndex()
	w.mu.Lock()
	defer w.mu.Unlock()
	return []admin.Member{
		{Name: "a", Voter: true, Alive: true, AppliedIndex: applied, Mismatches: w.announced, StuckBulks: w.stuck},
		{Name: "b", Voter: true, Alive: true, AppliedIndex: applied},
		{Name: "c"},
	}
}

// RemoveNode is for a node that isn't a.
func (w *World) RemoveNode(_ context.Context, node string, force bool) error {
	if node == "a" && !force {
		return status.Error(codes.FailedPrecondition, "without node a there would be no quorum")
	}
	return nil
}

// PromoteNode has nothing to do.
func (w *World) PromoteNode(context.Context, string) error { return nil }

// TransferLeadership names whom it was asked for.
func (w *World) TransferLeadership(_ context.Context, node string) (string, error) { return node, nil }

// JoinVia finds nobody.
func (w *World) JoinVia(context.Context, []string) (bool, string, error) {
	return false, "nobody answers", nil
}

// Sessions are two at b, and c doesn't answer.
func (w *World) Sessions(_ context.Context, node string) (int, error) {
	switch node {
	case "b":
		return 2, nil
	case "c":
		return 0, errors.New("connection refused")
	}
	return 0, nil
}

// LeadsAlone is false: b could lead.
func (w *World) LeadsAlone() bool { return false }

// Digests are the state's for a and b.
func (w *World) Digests(_ context.Context, node string, nonce []byte) (*pb.DigestResponse, error) {
	if node == "c" {
		return nil, errUnreachable
	}
	answer, ok := w.State.MarkedDigests(nonce)
	if !ok {
		return nil, errors.New("no such mark")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, digest := range answer.Digests {
		if node == "b" && digest.Family == w.tampered {
			digest.Sum++
		}
	}
	if node == "a" {
		answer.RowCheck = w.State.RowCheck()
		if answer.RowCheck != nil && w.damaged != "" {
			answer.RowCheck.Damages = []*pb.RowCheck_Damage{{Family: w.damaged, Text: "a row isn't what was written"}}
		}
	}
	return answer, nil
}

// CheckRows checks the rows of the state, which is node a's; c can't be reached.
func (w *World) CheckRows(ctx context.Context, node string, tell func(*pb.CheckRowsResponse) error) error {
	if node == "c" {
		return errUnreachable
	}
	check, err := w.State.CheckRows(ctx, Now.UnixNano, func(int, int) error { return nil })
	if err != nil {
		return err
	}
	return tell(&pb.CheckRowsResponse{Rows: check.Rows, Total: check.Rows, Result: check})
}

// Damage makes a check of node a's rows find a family changed.
func (w *World) Damage(family string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.damaged = family
}

// Announce keeps what a verification found, for node a to tell as the leader.
func (w *World) Announce(found []*pb.StateMismatch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.announced = found
}
