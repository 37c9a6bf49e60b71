package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// forwarder sends entries to the leader over one stream at a time.
type forwarder struct {
	cluster *Cluster

	mu     sync.Mutex // guards the fields below
	stream *leaderStream
	closed bool
}

// leaderStream is one stream. Once it has failed it stays so.
type leaderStream struct {
	to     peerAt
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[pb.ProposeRequest, pb.ProposeResponse]
	cancel context.CancelFunc
	ended  chan struct{} // closed when the reader has returned

	sending sync.Mutex // serialises Send

	mu      sync.Mutex // guards the fields below
	next    uint64
	pending map[uint64]chan outcome
	failed  bool
}

// send returns when the leader has answered, or can't any more.
func (f *forwarder) send(to peerAt, entry []byte, control bool) outcome {
	s, err := f.open(to)
	if err != nil {
		return outcome{kind: outcomeRefused, err: fmt.Errorf("reach the leader at %s: %w", to.address, err)}
	}
	id, answer, ok := s.expect()
	if !ok {
		return outcome{kind: outcomeRefused, err: errors.New("the stream to the leader broke")}
	}
	request := &pb.ProposeRequest{ClusterId: f.cluster.clusterID(), Id: id, Entry: entry, Control: control}
	s.sending.Lock()
	err = s.stream.Send(request)
	s.sending.Unlock()
	if err != nil {
		s.fail(err)
	}
	timer := time.NewTimer(f.cluster.cfg.Timing.RPC)
	defer timer.Stop()
	select {
	case out := <-answer:
		return out
	case <-timer.C:
		s.fail(fmt.Errorf("no answer from the leader for %s", f.cluster.cfg.Timing.RPC))
		return <-answer
	}
}

// open returns the stream to a leader, a new one where there is none.
func (f *forwarder) open(to peerAt) (*leaderStream, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errors.New("the node is stopping")
	}
	if f.stream != nil {
		if f.stream.to == to && !f.stream.hasFailed() {
			return f.stream, nil
		}
		f.stream.close()
		f.stream = nil
	}
	s, err := f.dial(to)
	if err != nil {
		return nil, err
	}
	f.stream = s
	return s, nil
}

func (f *forwarder) dial(to peerAt) (*leaderStream, error) {
	conn, err := f.cluster.connect(to)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(f.cluster.layer.ctx)
	// The stream's context can't bound the opening alone.
	opening := time.AfterFunc(time.Second, cancel)
	stream, err := pb.NewPeerServiceClient(conn).Propose(ctx)
	if err == nil && !opening.Stop() {
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return nil, errors.Join(err, conn.Close())
	}
	s := &leaderStream{
		to: to, conn: conn, stream: stream, cancel: cancel,
		ended: make(chan struct{}), pending: map[uint64]chan outcome{},
	}
	go s.read()
	return s, nil
}

// retarget gives up the stream to a leader that isn't one any more, also where
// this node is the new one: what is under way there may never be answered.
func (f *forwarder) retarget(leader leaderInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// With no leader known, the old one may still answer.
	known := leader.self || leader.raftID != ""
	if f.stream != nil && known && f.stream.to != leader.at() {
		f.stream.close()
		f.stream = nil
	}
}

func (f *forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.stream != nil {
		f.stream.close()
		f.stream = nil
	}
}

// expect registers a request.
func (s *leaderStream) expect() (id uint64, answer chan outcome, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed {
		return 0, nil, false
	}
	s.next++
	answer = make(chan outcome, 1)
	s.pending[s.next] = answer
	return s.next, answer, true
}

// read hands out answers until the stream ends.
func (s *leaderStream) read() {
	defer close(s.ended)
	for {
		resp, err := s.stream.Recv()
		if err != nil {
			s.fail(err)
			return
		}
		s.mu.Lock()
		answer, ok := s.pending[resp.Id]
		delete(s.pending, resp.Id)
		s.mu.Unlock()
		if ok {
			answer <- outcomeOf(resp)
		}
	}
}

func outcomeOf(resp *pb.ProposeResponse) outcome {
	switch resp.Outcome {
	case pb.ProposeResponse_OUTCOME_APPLIED:
		return outcome{kind: outcomeApplied, applied: fsm.Applied{Index: resp.Index, Results: resp.Results}}
	case pb.ProposeResponse_OUTCOME_REFUSED:
		return outcome{kind: outcomeRefused, err: errors.New(resp.Text)}
	}
	return outcome{err: errors.New(resp.Text)}
}

// fail makes the outcome of everything under way unknown.
func (s *leaderStream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = true
	for id, answer := range s.pending {
		answer <- outcome{err: err}
		delete(s.pending, id)
	}
	s.cancel()
}

func (s *leaderStream) hasFailed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// close ends the stream and waits for its reader.
func (s *leaderStream) close() {
	s.fail(errors.New("the stream to the leader was closed"))
	s.conn.Close()
	<-s.ended
}
