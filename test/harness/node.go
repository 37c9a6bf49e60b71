package harness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"

	"holdfast/pki"
)

// Node is one holdfast server process, running or not.
type Node struct {
	Name string
	Dir  string // the node's folder; see Data for its data

	// Where it listens, host:port.
	SMTP, Raft, Admin, HTTP string
	// Binary is its program; "" is the cluster's. It counts from the next start.
	Binary string
	// Where the other nodes find it.
	RaftAdvertised, AdminAdvertised string
	// Alone: its file names no other node.
	Alone bool

	cluster *Cluster
	data    string
	added   bool // after the first start

	mu      sync.Mutex // guards process
	process *process   // nil where none was started
}

// process is a running node: a process of its own, or a part of ours.
type process struct {
	pid    int
	signal func(os.Signal) error
	exited chan struct{}
	err    error // how it ended; read it after exited is closed
}

var nodeFile = template.Must(template.New("node").Parse(`node_id  = "{{.Name}}"
data_dir = "{{.Data}}"
[smtp]
listen = ["{{.SMTP}}"]
hostname = "{{.Hostname}}"
[raft]
listen = "{{.Raft}}"
advertise = "{{.RaftAdvertised}}"
{{with .LogStore}}log_store = "{{.}}"
{{end}}{{with .TrailingBytes}}trailing_bytes = {{.}}
{{end}}[admin]
listen = ["{{.Admin}}"]
advertise = "{{.AdminAdvertised}}"
[http]
listen = "{{.HTTP}}"
pprof = true
[cluster]
bootstrap_expect = {{.Expect}}
join = [{{range $i, $a := .Join}}{{if $i}}, {{end}}"{{$a}}"{{end}}]
{{with .TLS}}[tls]
ca = "{{.CA}}"
cert = "{{.Cert}}"
key = "{{.Key}}"
{{end}}[log]
level = "{{.LogLevel}}"
format = "text"
`))

// Data is the node's data folder.
func (n *Node) Data() string { return n.data }

// Hostname is the name the node gives in EHLO.
func (n *Node) Hostname() string { return "mx-" + n.Name + ".holdfast.test" }

// ConfigPath is the node file.
func (n *Node) ConfigPath() string { return filepath.Join(n.Dir, "holdfast.toml") }
func (n *Node) logPath() string    { return filepath.Join(n.Dir, "log") }

// writeConfig writes the one file that serves the first start and all later.
func (n *Node) writeConfig() (err error) {
	if err := os.MkdirAll(n.Dir, 0o755); err != nil {
		return err
	}
	var join []string
	expect := n.cluster.config.Nodes
	for _, other := range n.cluster.Nodes[:expect] {
		join = append(join, other.AdminAdvertised)
	}
	if n.added {
		expect = 0
	}
	if n.Alone {
		join = nil
	}
	var files *pki.Files
	if n.cluster.secured() {
		own := n.TLSFiles()
		files = &own
	}
	file, err := os.Create(n.ConfigPath())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return nodeFile.Execute(file, struct {
		*Node
		LogStore, LogLevel string
		TrailingBytes      int64
		Join               []string
		Expect             int
		TLS                *pki.Files
	}{n, n.cluster.config.LogStore, n.cluster.config.LogLevel, n.cluster.config.TrailingBytes, join, expect, files})
}

// Start starts the node; it doesn't wait until it is ready.
func (n *Node) Start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running() {
		return fmt.Errorf("node %s runs already", n.Name)
	}
	output, err := os.OpenFile(n.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	start := n.startServer
	if n.cluster.config.InProcess {
		start = n.startInside
	}
	p, err := start(output)
	if err != nil {
		return errors.Join(fmt.Errorf("start node %s: %w", n.Name, err), output.Close())
	}
	n.process = p
	return nil
}

// startServer starts a server process, which closes output at its end.
func (n *Node) startServer(output *os.File) (*process, error) {
	command := exec.Command(cmp.Or(n.Binary, n.cluster.config.Binary), "server", "--config", n.ConfigPath())
	command.Stdout, command.Stderr = output, output
	command.Env = environment()
	// A test that is killed leaves no node behind.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &process{pid: command.Process.Pid, signal: command.Process.Signal, exited: make(chan struct{})}
	go func() {
		p.err = errors.Join(command.Wait(), output.Close())
		close(p.exited)
	}()
	return p, nil
}

// environment is ours without what would point the command line elsewhere.
func environment() []string {
	var kept []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HOLDFAST_") {
			kept = append(kept, v)
		}
	}
	return kept
}

// running wants mu held.
func (n *Node) running() bool {
	if n.process == nil {
		return false
	}
	select {
	case <-n.process.exited:
		return false
	default:
		return true
	}
}

// PID is the process's id, 0 where none runs; of a node within our own process
// it is ours.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.running() {
		return 0
	}
	return n.process.pid
}

// Running reports whether the node was started and hasn't ended.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.running()
}

// Kill ends the process with SIGKILL and waits for its end. A node that
// doesn't run is left as it is.
func (n *Node) Kill() error {
	if err := n.signal(syscall.SIGKILL); err != nil {
		return err
	}
	n.wait()
	return nil
}

// Stop asks the process to end with SIGTERM and waits until it has, or ctx
// ends: then it is killed and an error says so.
func (n *Node) Stop(ctx context.Context) error {
	if err := n.signal(syscall.SIGTERM); err != nil {
		return err
	}
	n.mu.Lock()
	p := n.process
	n.mu.Unlock()
	if p == nil {
		return nil
	}
	select {
	case <-p.exited:
		n.wait()
		return p.err
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("node %s didn't stop in time: %w", n.Name, ctx.Err()), n.Kill())
	}
}

// Pause stops the process (SIGSTOP) as a hanging machine would; Resume lets it go on.
func (n *Node) Pause() error { return n.signal(syscall.SIGSTOP) }

// Resume continues a paused process.
func (n *Node) Resume() error { return n.signal(syscall.SIGCONT) }

func (n *Node) signal(s os.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return nil
	}
	err := n.process.signal(s)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// wait waits for the end of a process that was told to go.
func (n *Node) wait() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil {
		<-n.process.exited
		n.process = nil
	}
}

// WaitReady waits until /readyz says 200; it fails at once where the process ended.
func (n *Node) WaitReady(ctx context.Context) error {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return Eventually(ctx, "node "+n.Name+" ready", func(ctx context.Context) error {
		if !n.Running() {
			return Final(errors.New("its process has ended"))
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.HTTP+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		if err := response.Body.Close(); err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz says %s", response.Status)
		}
		return nil
	})
}
