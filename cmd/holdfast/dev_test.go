package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/test/harness"
	"holdfast/test/sink"
)

// freePorts are five that nobody has, and nobody's connection will have.
func freePorts(t *testing.T) devPorts {
	t.Helper()
	var ports [5]int
	free, err := harness.FreeAddresses(len(ports))
	if err != nil {
		t.Fatal(err)
	}
	for i := range ports {
		at, err := netip.ParseAddrPort(free[i])
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = int(at.Port())
	}
	return devPorts{smtp: ports[0], raft: ports[1], admin: ports[2], http: ports[3], sink: ports[4]}
}

// devRun is a running `holdfast dev` and what it says.
type devRun struct {
	t      *testing.T
	ports  devPorts
	lines  *bufio.Scanner
	stop   context.CancelFunc
	status chan int
	ended  chan struct{}
	errs   strings.Builder // read it after the end
}

func startDev(t *testing.T, args ...string) *devRun {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	out, w := io.Pipe()
	d := &devRun{t: t, ports: freePorts(t), lines: bufio.NewScanner(out), stop: stop, status: make(chan int, 1), ended: make(chan struct{})}
	a := &app{in: strings.NewReader(""), out: w, err: &d.errs, now: time.Now, env: func(string) string { return "" }, devPorts: d.ports}
	t.Cleanup(func() { // also of a test that failed early
		stop()
		if err := out.Close(); err != nil {
			t.Error(err)
		}
		<-d.ended
	})
	go func() {
		defer close(d.ended)
		status := a.run(ctx, append([]string{"dev"}, args...))
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		d.status <- status
	}()
	return d
}

// wait reads on until a line has the text.
func (d *devRun) wait(text string) string {
	d.t.Helper()
	for d.lines.Scan() {
		if line := d.lines.Text(); strings.Contains(line, text) {
			return line
		}
	}
	d.t.Fatalf("it ended without %q: status %d, %s", text, <-d.status, d.errs.String())
	return ""
}

func (d *devRun) end() {
	d.t.Helper()
	d.stop()
	d.wait("ended")
	for d.lines.Scan() {
		d.t.Errorf("after its end it said %q", d.lines.Text())
	}
	if status := <-d.status; status != exitDone {
		d.t.Errorf("status %d, %s", status, d.errs.String())
	}
}

func TestDevDeliversToDemoServer(t *testing.T) {
	d := startDev(t, "--nodes", "1")
	_, dir, _ := strings.Cut(d.wait("data in"), "data in ")
	d.wait("Ctrl-C ends it")
	r := shell{}.run(t, "send", "--server", loopback(d.ports.smtp), "--from", "me@x.test", "--to", "you@demo.test", "--subject", "hello")
	if r.status != exitDone {
		t.Fatalf("send: %+v", r)
	}
	if line := d.wait("delivered to the demo mail server"); !strings.Contains(line, `from me@x.test to you@demo.test`) || !strings.Contains(line, `subject "hello"`) {
		t.Errorf("it said %q", line)
	}
	if r := (shell{}).run(t, "status", "--addr", "unix:"+filepath.Join(dir, "a", "admin.sock")); r.status != exitDone {
		t.Errorf("status over the socket: %+v", r)
	}
	d.end()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("temporary folder %s: %v", dir, err)
	}
}

func TestDevKeepsFolderAndTakesDestination(t *testing.T) {
	next := server(t, sink.Config{})
	dir, err := os.MkdirTemp("", "hf") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	d := startDev(t, "--nodes", "1", "--dir", dir, "--destination", next.Addr())
	d.wait("the mail of demo.test goes to " + next.Addr())
	d.wait("Ctrl-C ends it")
	d.end()
	if _, err := os.Stat(filepath.Join(dir, "a")); err != nil {
		t.Errorf("data: %v", err)
	}
}

func TestDevSaysHowToCallIt(t *testing.T) {
	for program, want := range map[string]string{
		"":                                    "holdfast",
		"holdfast":                            "holdfast",
		"build/holdfast":                      "build/holdfast",
		"/tmp/go-build1234/b001/exe/holdfast": "go run ./cmd/holdfast",
		"/home/ann/.cache/go-build/ab/abcd-d/holdfast": "go run ./cmd/holdfast",
	} {
		if got := calledAs(program); got != want {
			t.Errorf("%q: %q, want %q", program, got, want)
		}
	}
}

func TestDevSaysWhatToDoWithoutADemoServer(t *testing.T) {
	ports := freePorts(t)
	busy, err := net.Listen("tcp", loopback(ports.sink))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	var out, errs strings.Builder
	a := &app{in: strings.NewReader(""), out: &out, err: &errs, now: time.Now, env: func(string) string { return "" }, devPorts: ports}
	if status := a.run(t.Context(), []string{"dev", "--nodes", "1"}); status != exitFailed || !strings.Contains(errs.String(), "--destination HOST:PORT") {
		t.Errorf("status %d, %s", status, errs.String())
	}
}

func TestDevSaysWhichPortIsBusy(t *testing.T) {
	ports := freePorts(t)
	busy, err := net.Listen("tcp", loopback(ports.http))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	var out, errs strings.Builder
	a := &app{in: strings.NewReader(""), out: &out, err: &errs, now: time.Now, env: func(string) string { return "" }, devPorts: ports}
	if status := a.run(t.Context(), []string{"dev", "--nodes", "1"}); status != exitFailed || !strings.Contains(errs.String(), "http.listen") || !strings.Contains(errs.String(), "address already in use") {
		t.Errorf("status %d, %s", status, errs.String())
	}
}
