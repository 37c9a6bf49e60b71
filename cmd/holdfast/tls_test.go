package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"holdfast/pki"
)

// folder runs the tls commands in a folder of their own, now.
type folder struct {
	t   *testing.T
	dir string
}

func (f folder) run(env map[string]string, args ...string) result {
	f.t.Helper()
	var out, errs strings.Builder
	a := &app{
		in: strings.NewReader(""), out: &out, err: &errs, now: time.Now,
		env: func(name string) string { return env[name] }, terminal: func() bool { return false },
	}
	status := a.run(f.t.Context(), args)
	return result{status: status, out: strings.ReplaceAll(out.String(), f.dir, "DIR"), err: strings.ReplaceAll(errs.String(), f.dir, "DIR")}
}

func (f folder) tls(args ...string) result {
	f.t.Helper()
	return f.run(nil, append([]string{"tls"}, args...)...)
}

func (f folder) must(args ...string) {
	f.t.Helper()
	if r := f.tls(args...); r.status != exitDone {
		f.t.Fatalf("tls %v: %+v", args, r)
	}
}

func (f folder) path(name string) string { return filepath.Join(f.dir, name) }

func newFolder(t *testing.T) folder { return folder{t, t.TempDir()} }

func TestTLSFiles(t *testing.T) {
	f := newFolder(t)
	f.must("init", "--dir", f.dir)
	f.must("issue", "node", "a", "--host", "mx-a.example.net,10.0.0.1", "--dir", f.dir, "--out", f.dir)
	r := f.tls("issue", "operator", "alice@example.com", "--dir", f.dir, "--out", f.dir)
	for _, want := range []string{"DIR/operator-alice@example.com.pem  the certificate of holdfast://operator/alice@example.com, until " + day(time.Now().Add(clientLasts)), "-key.pem  its key"} {
		if r.status != exitDone || !strings.Contains(r.out, want) {
			t.Errorf("%q isn't in %+v", want, r)
		}
	}
	files := pki.Files{CA: f.path("ca.pem"), Cert: f.path("node-a.pem"), Key: f.path("node-a-key.pem")}
	node, err := pki.Open(files, "a", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ends := node.Expiries()
	for i, lasts := range []time.Duration{caLasts, nodeLasts} {
		if left := time.Until(ends[i].NotAfter); left > lasts || left < lasts-time.Hour {
			t.Errorf("%+v ends in %v, want %v", ends[i], left, lasts)
		}
	}
	for _, key := range []string{"ca-key.pem", "node-a-key.pem", "operator-alice@example.com-key.pem"} {
		if info, err := os.Stat(f.path(key)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", key, info, err)
		}
	}
}

func TestTLSRefusals(t *testing.T) {
	f := newFolder(t)
	wantError(t, f.tls("issue", "admin", "root", "--dir", f.dir), exitFailed, "no CA in DIR: make one with `holdfast tls init`")
	f.must("init", "--dir", f.dir, "--valid", "30d")
	before, err := os.ReadFile(f.path("ca-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	f.must("issue", "admin", "root", "--dir", f.dir, "--out", f.dir) // cut to what is left of the CA
	for _, tt := range []struct {
		args, want string
		status     int
	}{
		{"init --dir DIR", "DIR/ca.pem is there already and is left as it is", exitFailed},
		{"init --dir DIR --valid soon", `--valid "soon"`, exitUsage},
		{"issue node a --dir DIR --out DIR", "say with --host", exitUsage},
		{"issue node a --host 0.0.0.0 --dir DIR --out DIR", "not the one it listens on", exitUsage},
		{"issue node a/b --host localhost --dir DIR --out DIR", "as in node_id", exitUsage},
		{"issue node --host localhost", "want one NODE_ID", exitUsage},
		{"issue operator", "want one NAME", exitUsage},
		{"issue operator alice --host localhost", "unknown flag: --host", exitUsage},
		{"issue superuser alice", "unknown command", exitUsage},
		{"issue viewer v --valid 31d --dir DIR --out DIR", "its CA only until", exitUsage},
		{"issue viewer v --valid -1d --dir DIR --out DIR", "--valid", exitUsage},
		{"issue admin root --dir DIR --out DIR", "DIR/admin-root.pem is there already", exitFailed},
	} {
		wantError(t, f.tls(strings.Fields(strings.ReplaceAll(tt.args, "DIR", f.dir))...), tt.status, tt.want)
	}
	if after, err := os.ReadFile(f.path("ca-key.pem")); err != nil || string(after) != string(before) {
		t.Errorf("the CA's key is another one: %v", err)
	}
}

// What a node and a client say to each other that don't fit together.
func TestReachOverTLS(t *testing.T) {
	f, other := newFolder(t), newFolder(t)
	f.must("init", "--dir", f.dir)
	f.must("issue", "node", "a", "--host", "127.0.0.1", "--dir", f.dir, "--out", f.dir)
	f.must("issue", "admin", "root", "--dir", f.dir, "--out", f.dir)
	other.must("init", "--dir", other.dir)
	other.must("issue", "admin", "root", "--dir", other.dir, "--out", other.dir)
	node, err := pki.Open(pki.Files{CA: f.path("ca.pem"), Cert: f.path("node-a.pem"), Key: f.path("node-a-key.pem")}, "a", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	secured, plain := serveNothing(t, grpc.Creds(node.ForServer())), serveNothing(t)
	with := func(ca, cert folder) map[string]string {
		return map[string]string{"HOLDFAST_CACERT": ca.path("ca.pem"), "HOLDFAST_CLIENT_CERT": cert.path("admin-root.pem"), "HOLDFAST_CLIENT_KEY": cert.path("admin-root-key.pem")}
	}
	for _, tt := range []struct {
		env    map[string]string
		args   string
		status int
		want   string
	}{
		// The server has no services: whoever gets as far as to hear so is in.
		{with(f, f), "--addr " + secured, exitFailed, "unknown service"},
		{with(f, f), "--tls-server-name 127.0.0.1 --addr " + strings.Replace(secured, "127.0.0.1", "localhost", 1), exitFailed, "unknown service"},
		{map[string]string{"HOLDFAST_CACERT": f.path("ca.pem")}, "--addr " + secured, exitFailed, "unknown service"},
		{with(f, f), "--addr " + strings.Replace(secured, "127.0.0.1", "localhost", 1), exitNoAnswer, "its certificate isn't for localhost"},
		{with(other, f), "--addr " + secured, exitNoAnswer, "isn't signed by the CA of --tls-ca"},
		{with(f, other), "--addr " + secured, exitNoAnswer, "refuses"},
		{with(f, f), "--addr " + plain, exitNoAnswer, "its node file has no [tls]"},
		{nil, "--addr " + secured, exitNoAnswer, "with [tls] in its node file it wants --tls-ca"},
		{nil, "--tls-cert x --addr " + secured, exitUsage, "a certificate and its key go together"},
		{nil, "--tls-cert x --tls-key y --addr " + secured, exitUsage, "say with --tls-ca"},
		{nil, "--tls-ca " + f.path("none.pem") + " --addr " + secured, exitFailed, "--tls-ca: open"},
		{nil, "--tls-ca " + f.path("ca-key.pem") + " --addr " + secured, exitFailed, "has a PRIVATE KEY among its certificates"},
	} {
		r := f.run(tt.env, append([]string{"status"}, strings.Fields(tt.args)...)...)
		wantError(t, r, tt.status, tt.want)
	}
}

func serveNothing(t *testing.T, options ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}
