package admin_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"

	"holdfast/pki"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

var update = flag.Bool("update", false, "write docs/access.md anew")

// credential is a way to call: over a connection, and with a token where there is
// one.
type credential struct {
	name  string
	conn  *grpc.ClientConn
	token string
}

func (c credential) context(ctx context.Context) context.Context {
	if c.token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
}

// Every method is called with every kind of credential, on a real server: what
// comes back is the table in docs/access.md.
func TestAuthorizationMatrix(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	all := everyone(t, w)
	var table strings.Builder
	var head, line []string
	for _, c := range all {
		head, line = append(head, c.name), append(line, "---")
	}
	fmt.Fprintf(&table, "| method | %s |\n|---|%s|\n", strings.Join(head, " | "), strings.Join(line, "|"))
	for _, method := range w.Methods() {
		var cells []string
		for _, c := range all {
			cells = append(cells, outcome(t, c, method))
		}
		service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
		service = service[strings.LastIndexByte(service, '.')+1:]
		fmt.Fprintf(&table, "| %s.%s | %s |\n", service, name, strings.Join(cells, " | "))
	}
	compareTable(t, table.String())
}

// everyone is all kinds of them, good and bad.
func everyone(t *testing.T, w *admintest.World) []credential {
	socket := connect(t, w.Socket, insecure.NewCredentials())
	access := pb.NewAccessServiceClient(socket)
	token := func(name string, role pb.Role, ttl time.Duration, domains ...string) string {
		req := &pb.CreateTokenRequest{Name: name, Role: role, Domains: domains}
		if ttl > 0 {
			req.Ttl = durationpb.New(ttl)
		}
		r, err := access.CreateToken(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return r.Secret
	}
	ca, foreign := newCA(t, "ours"), newCA(t, "another cluster's")
	address := w.ServeTLS(ca.config(t, pki.Identity{Kind: pki.Node, Name: "a"}))
	none := connect(t, address, credentials.NewTLS(ca.client()))
	certificate := func(from authority, kind pki.Kind) *grpc.ClientConn {
		config := ca.client()
		config.Certificates = []tls.Certificate{from.issue(t, pki.Identity{Kind: kind, Name: "ann"})}
		return connect(t, address, credentials.NewTLS(config))
	}
	expired, revoked := token("old", pb.Role_ROLE_ADMIN, time.Minute), token("gone", pb.Role_ROLE_ADMIN, 0)
	if _, err := access.RevokeToken(t.Context(), &pb.RevokeTokenRequest{Token: "gone"}); err != nil {
		t.Fatal(err)
	}
	all := []credential{
		{"socket", socket, ""},
		{"admin cert", certificate(ca, pki.Admin), ""},
		{"operator cert", certificate(ca, pki.Operator), ""},
		{"viewer cert", certificate(ca, pki.Viewer), ""},
		{"node cert", certificate(ca, pki.Node), ""},
		{"admin token", none, token("adm", pb.Role_ROLE_ADMIN, time.Hour)},
		{"operator token", none, token("op", pb.Role_ROLE_OPERATOR, 0)},
		{"viewer token", none, token("view", pb.Role_ROLE_VIEWER, 0)},
		{"operator token for a domain", none, token("op1", pb.Role_ROLE_OPERATOR, 0, "one.test")},
		{"viewer token for a domain", none, token("view1", pb.Role_ROLE_VIEWER, 0, "one.test")},
		{"expired token", none, expired},
		{"revoked token", none, revoked},
		{"unknown token", none, "hft_abcdefghij_" + strings.Repeat("a", 52)},
		{"viewer token on the socket", socket, token("view2", pb.Role_ROLE_VIEWER, 0)},
		{"foreign cert", certificate(foreign, pki.Admin), ""},
		{"none", none, ""},
	}
	w.Pass(time.Minute)
	return all
}

// outcome of a call with an empty request: whether it was let in, not what came of
// it then.
func outcome(t *testing.T, c credential, method string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.context(t.Context()), 20*time.Second)
	defer cancel()
	err := call(ctx, c.conn, method)
	switch status.Code(err) {
	case codes.Unauthenticated:
		return "–"
	case codes.PermissionDenied:
		return "no"
	case codes.Unavailable:
		if text := status.Convert(err).Message(); strings.Contains(text, "handshake") || strings.Contains(text, "tls:") {
			return "–"
		}
		t.Errorf("%s with %s: %v", method, c.name, err)
	case codes.DeadlineExceeded, codes.Unknown, codes.Internal:
		t.Errorf("%s with %s: %v", method, c.name, err)
	}
	return "yes"
}

// call sends an empty request and waits for the first response.
func call(ctx context.Context, conn *grpc.ClientConn, method string) error {
	descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(
		protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")))
	if err != nil {
		return err
	}
	m := descriptor.(protoreflect.MethodDescriptor)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if !m.IsStreamingClient() {
		if err := stream.SendMsg(dynamicpb.NewMessage(m.Input())); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if err := stream.RecvMsg(dynamicpb.NewMessage(m.Output())); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func connect(t *testing.T, address string, secured credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(secured))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// authority is a cluster's CA.
type authority struct {
	ca   *pki.CA
	pool *x509.CertPool
}

func newCA(t *testing.T, name string) authority {
	t.Helper()
	pair, err := pki.NewCA(name, pki.From(time.Now(), time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	a := authority{pool: x509.NewCertPool()}
	if a.ca, err = pki.ParseCA(pair); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.ca.Cert)
	return a
}

func (a authority) issue(t *testing.T, id pki.Identity) tls.Certificate {
	t.Helper()
	var hosts []string
	if id.Kind == pki.Node {
		hosts = []string{"127.0.0.1"}
	}
	pair, err := a.ca.Issue(id, hosts, pki.From(time.Now(), 30*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// config is a node's: a client may show a certificate, of this authority.
func (a authority) config(t *testing.T, id pki.Identity) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{a.issue(t, id)}, ClientCAs: a.pool, ClientAuth: tls.VerifyClientCertIfGiven,
	}
}

func (a authority) client() *tls.Config { return &tls.Config{RootCAs: a.pool} }

const accessPage = "../docs/access.md"

// compareTable wants the page to have the table behind its mark.
func compareTable(t *testing.T, table string) {
	t.Helper()
	const mark = "<!-- The rest is written by the test: go test ./admin -run Matrix -update -->\n"
	page, err := os.ReadFile(accessPage)
	if err != nil {
		t.Fatal(err)
	}
	text, _, found := bytes.Cut(page, []byte(mark))
	if !found {
		t.Fatalf("%s has no line %q", accessPage, mark)
	}
	want := slices.Concat(text, []byte(mark+"\n"+table))
	if bytes.Equal(page, want) {
		return
	}
	if !*update {
		t.Fatalf("%s isn't what the servers do; -update writes\n%s", accessPage, table)
	}
	if err := os.WriteFile(accessPage, want, 0o644); err != nil {
		t.Fatal(err)
	}
}
