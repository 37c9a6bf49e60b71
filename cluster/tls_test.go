package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"holdfast/pki"
	pb "holdfast/proto/holdfast/v1"
)

// authority issues the certificates of a world.
type authority struct {
	t    testing.TB
	dir  string
	ca   *pki.CA
	cert []byte
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	pair, err := pki.NewCA("test CA", pki.From(time.Now(), time.Hour))
	must(t, err)
	a.ca, err = pki.ParseCA(pair)
	must(t, err)
	must(t, pair.Write(filepath.Join(a.dir, "ca.pem"), filepath.Join(a.dir, "ca-key.pem")))
	a.cert = pair.Cert
	return a
}

func (a *authority) issue(id pki.Identity, name string) pki.Files {
	a.t.Helper()
	var hosts []string
	if id.Kind == pki.Node {
		hosts = []string{"127.0.0.1"}
	}
	pair, err := a.ca.Issue(id, hosts, pki.Validity{NotBefore: a.ca.Cert.NotBefore, NotAfter: a.ca.Cert.NotAfter})
	must(a.t, err)
	files := pki.Files{CA: filepath.Join(a.dir, "ca.pem"), Cert: filepath.Join(a.dir, name+".pem"), Key: filepath.Join(a.dir, name+"-key.pem")}
	must(a.t, pair.Write(files.Cert, files.Key))
	return files
}

// secured is a world whose nodes have certificates.
func secured(t testing.TB, names ...string) (*world, *authority) {
	w, a := newWorld(t, names...), newAuthority(t)
	all := map[string]*pki.Credentials{}
	w.adjust = func(cfg *Config) {
		if all[cfg.Node] == nil {
			c, err := pki.Open(a.issue(pki.Identity{Kind: pki.Node, Name: cfg.Node}, cfg.Node), cfg.Node, time.Now)
			must(t, err)
			all[cfg.Node] = c
		}
		cfg.TLS = all[cfg.Node]
		cfg.Timing.Poll = time.Second // a Hello has a handshake before it
	}
	return w, a
}

// client is a TLS configuration that shows a certificate, whatever the server wants.
func (a *authority) client(id pki.Identity, name, protocol string) *tls.Config {
	a.t.Helper()
	files := a.issue(id, name)
	pair, err := pki.LoadPair(files.Cert, files.Key)
	must(a.t, err)
	return &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{protocol},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
	}
}

func TestClusterOverTLS(t *testing.T) {
	w, authority := secured(t, "a", "b", "c")
	w.startAll()
	w.awaitLeased(w.names...)
	for _, name := range w.names {
		if name == "a" {
			w.nodes[name].configure()
		}
		w.nodes[name].must(message(t, testBody), testBody)
	}
	w.checkEqual(w.names...)
	leader := w.leader(w.names...)
	for _, other := range w.others(leader.name) {
		if _, err := leader.cluster.Condition(t.Context(), other); err != nil {
			t.Errorf("condition of %s: %v", other, err)
		}
	}
	t.Run("PeerService", func(t *testing.T) { checkPeerService(t, w, authority) })
	t.Run("strangers", func(t *testing.T) { checkStrangers(t, w, authority) })
	t.Run("raft", func(t *testing.T) { checkRaftPort(t, w, authority) })
	t.Run("another node at the address", func(t *testing.T) {
		_, err := leader.cluster.helloTo(t.Context(), peerAt{"z", w.nodes["b"].admin})
		if err == nil || !strings.Contains(err.Error(), "here answers holdfast://node/b, not holdfast://node/z") {
			t.Errorf("dialling z where b is: %v", err)
		}
	})
}

// checkStrangers: who has no credentials can't hold much.
func checkStrangers(t *testing.T, w *world, a *authority) {
	silent, err := net.Dial("tcp", w.nodes["a"].admin)
	must(t, err)
	defer silent.Close()
	must(t, silent.SetReadDeadline(time.Now().Add(2*prefaceTimeout)))
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, silent)
		ended <- err
	}()

	b := a.client(pki.Identity{Kind: pki.Node, Name: "b"}, "b-calls", "h2")
	conn, err := grpc.NewClient("passthrough:///"+w.nodes["a"].admin, grpc.WithTransportCredentials(credentials.NewTLS(b)))
	must(t, err)
	peer := pb.NewPeerServiceClient(conn)
	for range maxCalls {
		_, err := peer.Propose(t.Context())
		must(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := peer.Propose(ctx); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("call %d of a connection: %v", maxCalls+1, err)
	}
	must(t, conn.Close())
	if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection that says nothing stays")
	}
}

func checkPeerService(t *testing.T, w *world, a *authority) {
	id := w.nodes["a"].state.ClusterID()
	calls := map[string]func(context.Context, pb.PeerServiceClient, string) error{
		"Hello": func(ctx context.Context, c pb.PeerServiceClient, node string) error {
			_, err := c.Hello(ctx, &pb.HelloRequest{ClusterId: id, Node: node})
			return err
		},
		"Join": func(ctx context.Context, c pb.PeerServiceClient, node string) error {
			_, err := c.Join(ctx, &pb.JoinRequest{ClusterId: id, Node: node, RaftId: node + ".X", RaftAddress: "127.0.0.1:1", AdminAddress: "127.0.0.1:1"})
			return err
		},
		"Ping": func(ctx context.Context, c pb.PeerServiceClient, node string) error {
			_, err := c.Ping(ctx, &pb.PingRequest{ClusterId: id, Node: node})
			return err
		},
		"Propose": func(ctx context.Context, c pb.PeerServiceClient, _ string) error {
			stream, err := c.Propose(ctx)
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"CheckRows": func(ctx context.Context, c pb.PeerServiceClient, _ string) error {
			stream, err := c.CheckRows(ctx, &pb.CheckRowsRequest{ClusterId: id})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"Digest": func(ctx context.Context, c pb.PeerServiceClient, _ string) error {
			_, err := c.Digest(ctx, &pb.DigestRequest{ClusterId: id})
			return err
		},
		"ChangeMembership": func(ctx context.Context, c pb.PeerServiceClient, _ string) error {
			_, err := c.ChangeMembership(ctx, &pb.ChangeMembershipRequest{ClusterId: id})
			return err
		},
		"StartFault": func(ctx context.Context, c pb.PeerServiceClient, _ string) error {
			_, err := c.StartFault(ctx, &pb.StartFaultRequest{ClusterId: id, Drill: "none"})
			return err
		},
		"EndFault": func(ctx context.Context, c pb.PeerServiceClient, _ string) error {
			_, err := c.EndFault(ctx, &pb.EndFaultRequest{ClusterId: id, Drill: "none"})
			return err
		},
		"TryAccept": func(ctx context.Context, c pb.PeerServiceClient, _ string) error {
			_, err := c.TryAccept(ctx, &pb.TryAcceptRequest{ClusterId: id})
			return err
		},
		"VerifyRecipient": func(ctx context.Context, c pb.PeerServiceClient, _ string) error {
			_, err := c.VerifyRecipient(ctx, &pb.VerifyRecipientRequest{ClusterId: id, Destination: "none"})
			return err
		},
		"ListAnswered": func(ctx context.Context, c pb.PeerServiceClient, _ string) error {
			stream, err := c.ListAnswered(ctx, &pb.ListAnsweredRequest{ClusterId: id, Drill: "none"})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	}
	if n := len(pb.PeerService_ServiceDesc.Methods) + len(pb.PeerService_ServiceDesc.Streams); n != len(calls) {
		t.Errorf("PeerService has %d methods, %d are called here", n, len(calls))
	}
	nobody := &tls.Config{InsecureSkipVerify: true}
	admin := a.client(pki.Identity{Kind: pki.Admin, Name: "root"}, "root", "h2")
	b := a.client(pki.Identity{Kind: pki.Node, Name: "b"}, "b-again", "h2")
	foreign := newAuthority(t).client(pki.Identity{Kind: pki.Node, Name: "b"}, "b", "h2")
	for _, caller := range []struct {
		name string
		as   credentials.TransportCredentials
		// node is claimed; want is of the calls that claim it, others of the others.
		node         string
		want, others codes.Code
	}{
		{"nobody", credentials.NewTLS(nobody), "b", codes.Unauthenticated, codes.Unauthenticated},
		{"an administrator", credentials.NewTLS(admin), "b", codes.PermissionDenied, codes.PermissionDenied},
		{"b as a", credentials.NewTLS(b), "a", codes.PermissionDenied, codes.OK},
		{"a node of another CA", credentials.NewTLS(foreign), "b", codes.Unavailable, codes.Unavailable},
		{"plain text", insecure.NewCredentials(), "b", codes.Unavailable, codes.Unavailable},
	} {
		conn, err := grpc.NewClient("passthrough:///"+w.nodes["a"].admin, grpc.WithTransportCredentials(caller.as))
		must(t, err)
		for method, call := range calls {
			want := caller.others
			if method == "Hello" || method == "Join" || method == "Ping" {
				want = caller.want
			}
			if want == codes.OK {
				continue // b itself may call
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if err := call(ctx, pb.NewPeerServiceClient(conn), caller.node); status.Code(err) != want {
				t.Errorf("%s calls %s: %v, want %v", caller.name, method, err, want)
			}
			cancel()
		}
		must(t, conn.Close())
	}
}

func checkRaftPort(t *testing.T, w *world, a *authority) {
	target := w.nodes["a"]
	say := func(config *tls.Config, source string) (string, error) {
		raw, err := net.Dial("tcp", target.raft)
		must(t, err)
		defer raw.Close()
		must(t, raw.SetDeadline(time.Now().Add(20*time.Second)))
		conn := raw
		if config != nil {
			conn = tls.Client(raw, config)
		}
		err = preface{cluster: target.state.ClusterID(), source: source, target: target.cluster.raftID}.write(conn)
		if err != nil {
			return "", err
		}
		return readString(conn)
	}
	b := a.client(pki.Identity{Kind: pki.Node, Name: "b"}, "b-raft", pki.ProtocolRaft)
	if refusal, err := say(b, w.nodes["b"].cluster.raftID); err != nil || refusal != "" {
		t.Errorf("b as itself: %q, %v", refusal, err)
	}
	if refusal, err := say(b, w.nodes["c"].cluster.raftID); err != nil || !strings.Contains(refusal, "the certificate is node b's") {
		t.Errorf("b as c: %q, %v", refusal, err)
	}
	for name, config := range map[string]*tls.Config{
		"an operator":          a.client(pki.Identity{Kind: pki.Operator, Name: "alice"}, "alice", pki.ProtocolRaft),
		"nobody":               {InsecureSkipVerify: true, NextProtos: []string{pki.ProtocolRaft}},
		"a node of another CA": newAuthority(t).client(pki.Identity{Kind: pki.Node, Name: "b"}, "b", pki.ProtocolRaft),
		"a gRPC connection":    a.client(pki.Identity{Kind: pki.Node, Name: "b"}, "b-grpc", "h2"),
	} {
		if refusal, err := say(config, w.nodes["b"].cluster.raftID); err == nil {
			t.Errorf("%s speaks raft: %q", name, refusal)
		} else if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s is left to wait: %v", name, err)
		}
	}
	if _, err := say(nil, w.nodes["b"].cluster.raftID); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		// The server's alert comes as bytes that are no answer.
		if refusal, _ := say(nil, w.nodes["b"].cluster.raftID); refusal == "" {
			t.Errorf("plain text speaks raft: %v", err)
		}
	}
}

// A node with a certificate of another CA finds the cluster and isn't let in.
func TestForeignAuthorityDoesNotJoin(t *testing.T) {
	w, _ := secured(t, "a")
	w.startAll()
	w.awaitLeased("a")
	foreign := newAuthority(t)
	ours := w.adjust
	w.adjust = func(cfg *Config) {
		ours(cfg)
		if cfg.Node == "b" {
			c, err := pki.Open(foreign.issue(pki.Identity{Kind: pki.Node, Name: "b"}, "b"), "b", time.Now)
			must(t, err)
			cfg.TLS = c
		}
	}
	b := w.add("b")
	b.join = []string{w.nodes["a"].admin}
	b.start()
	eventually(t, "b says why it isn't let in", func() bool {
		b.cluster.inviteMu.Lock()
		defer b.cluster.inviteMu.Unlock()
		return strings.Contains(b.cluster.step, "unknown authority") || strings.Contains(b.cluster.step, "unknown certificate authority")
	})
	if n := len(w.nodes["a"].cluster.Members()); n != 1 {
		t.Errorf("%d members, want 1", n)
	}
}
