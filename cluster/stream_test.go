package cluster

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/pki"
)

// startLayer starts a stream layer by itself; nil credentials are plain text.
func startLayer(t *testing.T, raftID string, credentials *pki.Credentials) *streamLayer {
	t.Helper()
	listener := listen(t, freeAddress(t))
	s := &streamLayer{
		listener: listener, raftID: raftID, advertise: listener.Addr().String(), dial: dialTCP, tls: credentials,
		accept:    func(conn net.Conn) net.Conn { return conn },
		clusterID: func() string { return "" }, meet: func(string) error { return nil }, log: testLogger(t),
	}
	s.start(t.Context())
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// Who opens connections and says nothing doesn't keep a node out.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	a, b := startLayer(t, "a.1", nil), startLayer(t, "b.1", nil)
	var silent []net.Conn
	for range maxPrefaces {
		conn, err := dialTCP(t.Context(), a.advertise)
		must(t, err)
		defer conn.Close()
		silent = append(silent, conn)
	}
	began := time.Now()
	conn, err := b.Dial(raft.ServerAddress(raftAddress("a.1", a.advertise)), prefaceTimeout)
	if err != nil {
		t.Fatalf("a node is kept out: %v", err)
	}
	defer conn.Close()
	if took := time.Since(began); took > prefaceTimeout/2 {
		t.Errorf("a node waited for %s behind connections that said nothing", took)
	}
	must(t, silent[0].SetReadDeadline(time.Now().Add(prefaceTimeout/2)))
	if _, err := silent[0].Read(make([]byte, 1)); os.IsTimeout(err) || err == nil {
		t.Errorf("the oldest silent connection is still there: %v", err)
	}
	accepted, err := a.Accept()
	must(t, err)
	defer accepted.Close()
	if _, err := conn.Write([]byte{7}); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(accepted, make([]byte, 1)); err != nil {
		t.Errorf("the node's connection: %v", err)
	}
}

// A connection that the other end refuses after the handshake is given up whole:
// raft asks again and again, for as long as a lost data folder is a member.
func TestRefusedConnectionsAreForgotten(t *testing.T) {
	authority := newAuthority(t)
	files := authority.issue(pki.Identity{Kind: pki.Node, Name: "b"}, "b")
	open := func(files pki.Files, node string) *pki.Credentials {
		c, err := pki.Open(files, node, time.Now)
		must(t, err)
		return c
	}
	a := startLayer(t, "a.2", open(authority.issue(pki.Identity{Kind: pki.Node, Name: "a"}, "a"), "a"))
	credentials := open(files, "b")
	b := startLayer(t, "b.1", credentials)
	for range 3 {
		_, err := b.Dial(raft.ServerAddress(raftAddress("a.1", a.advertise)), prefaceTimeout)
		if err == nil || !strings.Contains(err.Error(), "refused: this is a.2, not a.1") {
			t.Fatalf("dialled a lost data folder: %v", err)
		}
	}
	// What is open is closed when its authority is trusted no more.
	other := newAuthority(t)
	fresh := other.issue(pki.Identity{Kind: pki.Node, Name: "b"}, "b")
	for from, to := range map[string]string{fresh.CA: files.CA, fresh.Cert: files.Cert, fresh.Key: files.Key} {
		must(t, os.Rename(from, to))
	}
	closed, err := credentials.Reload()
	must(t, err)
	if len(closed) > 0 {
		t.Errorf("%d refused connections are still counted as open", len(closed))
	}
}
