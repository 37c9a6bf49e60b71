package pki

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// store is a folder with the files of one node, and its clock.
type store struct {
	t     *testing.T
	files Files
	ahead atomic.Int64
}

func newStore(t *testing.T) *store {
	dir := t.TempDir()
	return &store{t: t, files: Files{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "node.pem"), filepath.Join(dir, "node-key.pem")}}
}

func (s *store) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

func (s *store) trust(bundles ...[]byte) *store {
	s.t.Helper()
	var all []byte
	for _, bundle := range bundles {
		all = append(all, bundle...)
	}
	s.write(s.files.CA, all)
	return s
}

func (s *store) hold(ca *CA, id Identity) *store {
	s.t.Helper()
	pair, err := ca.Issue(id, hostsFor(id), Validity{ca.Cert.NotBefore, ca.Cert.NotAfter})
	pair = must(s.t, pair, err)
	s.write(s.files.Cert, pair.Cert)
	s.write(s.files.Key, pair.Key)
	return s
}

func (s *store) write(path string, text []byte) {
	s.t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) open(node string) *Credentials {
	s.t.Helper()
	c, err := Open(s.files, node, s.now)
	return must(s.t, c, err)
}

// meet has two nodes shake hands over TCP and say one byte each way.
func meet(t *testing.T, server, client *Credentials, wanted string) (at, from *Conn, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	l = must(t, l, err)
	defer l.Close()
	accepted := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err == nil {
			t.Cleanup(func() { raw.Close() })
			at, err = server.Accept(raw, ProtocolRaft)
		}
		if err == nil {
			_, err = at.Write([]byte{1})
		}
		accepted <- err
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	raw = must(t, raw, err)
	t.Cleanup(func() { raw.Close() })
	from, err = client.Dial(t.Context(), raw, wanted, ProtocolRaft)
	if err == nil {
		_, err = io.ReadFull(from, make([]byte, 1))
	}
	if served := <-accepted; served != nil {
		err = served
	}
	return at, from, err
}

func TestNodesMeet(t *testing.T) {
	ca, pair := newCA(t)
	a := newStore(t).trust(pair.Cert).hold(ca, Identity{Node, "a"}).open("a")
	b := newStore(t).trust(pair.Cert).hold(ca, Identity{Node, "b"}).open("b")
	for wanted, want := range map[string]string{"a": "", "": "", "c": "here answers holdfast://node/a, not holdfast://node/c"} {
		at, from, err := meet(t, a, b, wanted)
		if want == "" && (err != nil || at.Peer != (Identity{Node, "b"}) || from.Peer != (Identity{Node, "a"})) {
			t.Errorf("dialling %q: %v", wanted, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), "bad certificate") && !strings.Contains(err.Error(), want)) {
			t.Errorf("dialling %q: %v, want %q", wanted, err, want)
		}
	}
	ours, theirs := newCA(t)
	foreign := newStore(t).trust(theirs.Cert).hold(ours, Identity{Node, "b"}).open("b")
	if _, _, err := meet(t, a, foreign, ""); err == nil {
		t.Error("a node of another CA got through")
	}
	both := newStore(t).trust(theirs.Cert, pair.Cert).hold(ours, Identity{Node, "b"}).open("b")
	if _, _, err := meet(t, a, both, "a"); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a node of another CA that trusts ours: %v", err)
	}
}

// A client that holds the cluster's certificates, but not a node's.
func TestOnlyNodesMeet(t *testing.T) {
	ca, pair := newCA(t)
	a := newStore(t).trust(pair.Cert).hold(ca, Identity{Node, "a"}).open("a")
	b := newStore(t).trust(pair.Cert).hold(ca, Identity{Node, "b"}).open("b")
	alice := issue(t, ca, Identity{Admin, "alice"})
	m := *b.current.Load()
	m.pair = alice
	b.current.Store(&m)
	if _, _, err := meet(t, a, b, "a"); err == nil || !strings.Contains(err.Error(), "holdfast://admin/alice is no node") {
		t.Errorf("an administrator's certificate between nodes: %v", err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	ca, pair := newCA(t)
	_, otherPair := newCA(t)
	good := func() *store { return newStore(t).trust(pair.Cert).hold(ca, Identity{Node, "a"}) }
	for want, s := range map[string]*store{
		"tls.ca: open":                           newStore(t).hold(ca, Identity{Node, "a"}),
		"not a file of PEM certificates":         good().trust([]byte("hello")),
		"no CA in tls.ca has signed it":          good().trust(otherPair.Cert),
		"for holdfast://node/b, not for":         good().hold(ca, Identity{Node, "b"}),
		"for holdfast://admin/a, not for":        good().hold(ca, Identity{Admin, "a"}),
		"tls.cert and tls.key: open":             newStore(t).trust(pair.Cert),
		"private key does not match":             func() *store { s := good(); s.write(s.files.Key, otherPair.Key); return s }(),
		"issue another with `holdfast tls issue": func() *store { s := good(); s.ahead.Store(int64(2 * time.Hour)); return s }(),
	} {
		if _, err := Open(s.files, "a", s.now); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want one line with %q", err, want)
		}
	}
	if _, err := Open(good().trust(otherPair.Cert, pair.Cert).files, "a", time.Now); err != nil {
		t.Errorf("two CAs: %v", err)
	}
}

// A CA takes the place of another while connections are open: each step closes
// none, until the old one is taken out, which closes those that go by it.
func TestRotation(t *testing.T) {
	old, oldPair := newCA(t)
	next, nextPair := newCA(t)
	sa := newStore(t).trust(oldPair.Cert).hold(old, Identity{Node, "a"})
	sb := newStore(t).trust(oldPair.Cert).hold(old, Identity{Node, "b"})
	a, b := sa.open("a"), sb.open("b")
	connect := func(step string) *Conn {
		t.Helper()
		at, _, err := meet(t, a, b, "a")
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		return at
	}
	reload := func(step string, closes int, all ...*Credentials) {
		t.Helper()
		for _, c := range all {
			closed, err := c.Reload()
			if err != nil || len(closed) != closes {
				t.Fatalf("%s: closes %v, %v, want %d", step, closed, err, closes)
			}
			connect(step)
		}
	}
	first := connect("at first")
	sa.trust(oldPair.Cert, nextPair.Cert)
	sb.trust(oldPair.Cert, nextPair.Cert)
	reload("both trusted", 0, a, b)
	sa.hold(next, Identity{Node, "a"})
	sb.hold(next, Identity{Node, "b"})
	reload("new certificates", 0, a, b)
	sa.trust(nextPair.Cert)
	// Of b's own certificates a has seen one under the new CA, since b reloaded last.
	closed, err := a.Reload()
	if err != nil || len(closed) == 0 {
		t.Fatalf("the old CA is out, and %v were closed: %v", closed, err)
	}
	if closed[0].Peer != (Identity{Node, "b"}) {
		t.Errorf("closed %+v", closed[0])
	}
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Error("the first connection is still open")
	}
	connect("one has the old CA out")
	sb.trust(nextPair.Cert)
	if _, err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	connect("at the end")
}

func TestBrokenFilesChangeNothing(t *testing.T) {
	ca, pair := newCA(t)
	_, otherPair := newCA(t)
	sa := newStore(t).trust(pair.Cert).hold(ca, Identity{Node, "a"})
	a, b := sa.open("a"), newStore(t).trust(pair.Cert).hold(ca, Identity{Node, "b"}).open("b")
	for what, spoil := range map[string]func(){
		"half a certificate": func() { sa.write(sa.files.Cert, []byte("-----BEGIN CERTIFICATE-----\n")) },
		"another's key":      func() { sa.hold(ca, Identity{Node, "a"}); sa.write(sa.files.Key, otherPair.Key) },
		"no CA":              func() { sa.hold(ca, Identity{Node, "a"}).trust(otherPair.Cert) },
	} {
		spoil()
		if _, err := a.Reload(); err == nil {
			t.Errorf("%s was taken", what)
		}
		if _, _, err := meet(t, a, b, "a"); err != nil {
			t.Errorf("after %s: %v", what, err)
		}
	}
}

// What has expired gets no new connection. A node keeps those that it has, a
// client doesn't.
func TestExpiryOfOpenConnections(t *testing.T) {
	ca, pair := newCA(t)
	sa := newStore(t).trust(pair.Cert).hold(ca, Identity{Node, "a"})
	a, b := sa.open("a"), newStore(t).trust(pair.Cert).hold(ca, Identity{Node, "b"}).open("b")
	at, _, err := meet(t, a, b, "a")
	at = must(t, at, err)
	sa.ahead.Store(int64(2 * time.Hour))
	if closed := a.Recheck(); len(closed) != 0 {
		t.Errorf("an expired node was cut off: %v", closed)
	}
	if _, _, err := meet(t, a, b, "a"); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a new connection after the end: %v", err)
	}
	at.Peer.Kind = Operator // as if it had come with such a certificate
	if closed := a.Recheck(); len(closed) != 1 {
		t.Errorf("a client outlives its certificate: %v", closed)
	}
	if len(a.open) != 0 {
		t.Errorf("%d connections are still counted as open", len(a.open))
	}
}

// A connection for raft doesn't end up at gRPC's listener, and plain text at none.
func TestWrongListener(t *testing.T) {
	ca, pair := newCA(t)
	a := newStore(t).trust(pair.Cert).hold(ca, Identity{Node, "a"}).open("a")
	for name, speak := range map[string]func(net.Conn) error{
		"plain text": func(raw net.Conn) error {
			if _, err := raw.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
				return err
			}
			_, err := io.ReadAll(raw)
			return err
		},
		"raft": func(raw net.Conn) error {
			_, err := a.Dial(context.Background(), raw, "a", ProtocolRaft)
			if err == nil {
				t.Error("raft speaks to gRPC's listener")
			}
			return nil
		},
	} {
		left, right := net.Pipe()
		done := make(chan error, 1)
		go func() {
			_, _, err := a.ForServer().ServerHandshake(left)
			left.Close()
			done <- err
		}()
		if err := speak(right); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: %v", name, err)
		}
		right.Close()
		if err := <-done; err == nil {
			t.Errorf("%s got through", name)
		}
	}
}

func TestExpiries(t *testing.T) {
	ca, pair := newCA(t)
	a := newStore(t).trust(pair.Cert).hold(ca, Identity{Node, "a"}).open("a")
	ends := a.Expiries()
	if len(ends) != 2 || ends[0].Use != "ca" || ends[0].Name != "test CA" || ends[1].Use != "node" || ends[1].Name != "a" || !ends[1].NotAfter.Equal(ca.Cert.NotAfter) {
		t.Errorf("%+v", ends)
	}
}

func TestWriteOverwritesNothing(t *testing.T) {
	_, pair := newCA(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
	if err := pair.Write(cert, key); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info.Mode(), err)
	}
	_, other := newCA(t)
	if err := other.Write(cert, filepath.Join(dir, "other-key.pem")); err == nil || !strings.Contains(err.Error(), cert+" is there already") {
		t.Errorf("overwriting: %v", err)
	}
	if text, err := os.ReadFile(cert); err != nil || string(text) != string(pair.Cert) {
		t.Errorf("the first certificate is gone: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "other-key.pem")); err == nil {
		t.Error("half of the pair was written")
	}
}

// What a run leaves that was killed between the two files, or that could write
// only one, doesn't leave the next without a word.
func TestWriteAfterHalfARun(t *testing.T) {
	_, pair := newCA(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
	if err := os.WriteFile(key, pair.Key[:10], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := pair.Write(cert, key); err == nil || !strings.Contains(err.Error(), "remove "+key+" and run it again") {
		t.Errorf("a key alone: %v", err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := pair.Write(filepath.Join(dir, "none", "ca.pem"), key); err == nil {
		t.Error("a certificate was written where there is no folder")
	}
	if err := pair.Write(cert, key); err != nil {
		t.Errorf("after a run that failed: %v", err)
	}
}
