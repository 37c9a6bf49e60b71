package cluster

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A heartbeat that comes as the node stops is not handled once the transport is
// closed, and one that is being handled keeps it from closing: the stores are
// closed next.
func TestNoHeartbeatAfterTheEnd(t *testing.T) {
	layer := &streamLayer{
		listener: listen(t, "127.0.0.1:0"), raftID: "a.1", log: quiet(),
		accept: func(conn net.Conn) net.Conn { return conn },
	}
	layer.start(t.Context())
	tr := newTransport(layer, time.Second, newHCLog(quiet(), time.Now), bootTime, func() error { return nil })
	began, goOn, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	handled := 0
	beat := tr.untilClosed(func(raft.RPC) {
		handled++
		close(began)
		<-goOn
		select {
		case <-closed:
			t.Error("closed while a heartbeat is being handled")
		default:
		}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		beat(raft.RPC{})
	}()
	<-began
	go func() {
		defer close(closed)
		if err := errors.Join(tr.Close(), layer.Close()); err != nil {
			t.Error(err)
		}
	}()
	close(goOn)
	<-done
	<-closed
	answer := make(chan raft.RPCResponse, 1)
	beat(raft.RPC{RespChan: answer})
	if got := <-answer; handled != 1 || !errors.Is(got.Error, raft.ErrTransportShutdown) {
		t.Errorf("after the end: handled %d, answered %v", handled, got.Error)
	}
}
