package cluster

import (
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// transport is raft's network transport, which also notes which server
// acknowledged the leader's term to what that was asked when.
//
// raft.VerifyLeader alone proves too little for a lease: it counts the answer
// to a heartbeat that was under way when the verification began. After the
// process has been stopped for a while such an answer, from before another
// leader was elected, may be waiting in a socket.
type transport struct {
	*raft.NetworkTransport
	now      func() time.Duration
	disk     func() error // why this node's disk is fit for no leader, nil if it is
	catchUps *catchUps

	beats sync.RWMutex // held for reading by heartbeats that are being handled
	gone  bool         // guarded by beats: no more of them are

	mu   sync.Mutex // guards acks
	acks map[raft.ServerID]ack
}

// ack: at asked the server was sent what it acknowledged in term.
type ack struct {
	term  uint64
	asked time.Duration
	wall  time.Time
}

func newTransport(layer *streamLayer, timeout time.Duration, logger hclog.Logger, now func() time.Duration, disk func() error) *transport {
	inner := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:                  layer,
		Logger:                  logger,
		MaxPool:                 3,
		MaxRPCsInFlight:         1, // hashicorp/raft#612: pipelining can park the sender for good
		Timeout:                 timeout,
		MsgpackUseNewTimeFormat: true,
	})
	inner.TimeoutScale = 16 << 20 // bytes of a snapshot for each Timeout
	return &transport{NetworkTransport: inner, now: now, disk: disk, catchUps: newCatchUps(), acks: map[raft.ServerID]ack{}}
}

// SetHeartbeatHandler implements raft.Transport. Raft handles heartbeats on the
// connections' own goroutines, which its Shutdown doesn't wait for: one of a new
// term would be written to a store that is closed by then, and raft panics.
func (t *transport) SetHeartbeatHandler(handle func(raft.RPC)) {
	t.NetworkTransport.SetHeartbeatHandler(t.untilClosed(handle))
}

func (t *transport) untilClosed(handle func(raft.RPC)) func(raft.RPC) {
	return func(rpc raft.RPC) {
		t.beats.RLock()
		defer t.beats.RUnlock()
		if t.gone {
			rpc.Respond(nil, raft.ErrTransportShutdown)
			return
		}
		handle(rpc)
	}
}

// Close returns when no heartbeat is being handled any more.
func (t *transport) Close() error {
	err := t.NetworkTransport.Close()
	t.beats.Lock()
	defer t.beats.Unlock()
	t.gone = true
	return err
}

// AppendEntries implements raft.Transport. A leader whose disk hangs sends
// nothing, heartbeats neither: the others elect another one. To them, and to
// raft here, that is a network that is cut, which raft is made for.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := t.disk(); err != nil {
		return err
	}
	asked, wall := t.now(), time.Now()
	if err := t.NetworkTransport.AppendEntries(id, target, args, resp); err != nil {
		return err
	}
	if resp.Term == args.Term {
		t.mu.Lock()
		if t.acks[id].asked < asked {
			t.acks[id] = ack{term: args.Term, asked: asked, wall: wall}
		}
		t.mu.Unlock()
		index := uint64(0)
		if n := len(args.Entries); n > 0 && resp.Success {
			index = args.Entries[n-1].Index
		}
		t.catchUps.heard(id, index, asked)
	}
	return nil
}

// InstallSnapshot implements raft.Transport. It returns once the follower has
// the state, or won't have it.
func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := t.disk(); err != nil {
		return err // for a follower an install is a sign of life too
	}
	t.catchUps.begin(id, args.LastLogIndex, t.now())
	err := t.NetworkTransport.InstallSnapshot(id, target, args, resp, data)
	t.catchUps.sent(id, err == nil && resp.Success)
	return err
}

// acknowledged reports whether a majority of the voters, self being one, has
// acknowledged term to something sent at since or later.
func (t *transport) acknowledged(servers []raft.Server, self raft.ServerID, term uint64, since time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	voters, yes := 0, 0
	for _, server := range servers {
		if server.Suffrage != raft.Voter {
			continue
		}
		voters++
		if a, ok := t.acks[server.ID]; server.ID == self || ok && a.term == term && a.asked >= since {
			yes++
		}
	}
	return yes > voters/2
}

// lastAck is when the server last acknowledged something, zero where it never
// did.
func (t *transport) lastAck(id raft.ServerID) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.acks[id].wall
}
