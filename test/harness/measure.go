package harness

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Metric reads the value of a metric without labels from /metrics.
func (n *Node) Metric(ctx context.Context, name string) (value float64, err error) {
	content, err := n.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		if text, found := strings.CutPrefix(lines.Text(), name+" "); found {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, fmt.Errorf("node %s has no metric %s", n.Name, name)
}

// get reads what the node's HTTP server has at a path.
func (n *Node) get(ctx context.Context, path string) (content []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.HTTP+path, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("node %s: %s says %s", n.Name, path, response.Status)
	}
	return io.ReadAll(response.Body)
}

// Collect has the process free what it doesn't need any more. By itself it does so
// only once its heap has doubled, or after two minutes.
func (n *Node) Collect(ctx context.Context) error {
	// The second collection ends what the first one's finalizers let go.
	for range 2 {
		if _, err := n.get(ctx, "/debug/pprof/heap?gc=1"); err != nil {
			return err
		}
	}
	return nil
}

// Memory is what a process has in RAM, in bytes.
type Memory struct {
	Resident int64
	Peak     int64 // since the start, or the last ResetPeak
	Mapped   int64 // of what is resident: pages of files, which the kernel takes back when it likes
}

// Memory reads the process's resident memory from the kernel.
func (n *Node) Memory() (m Memory, err error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(content)) {
		key, value, _ := strings.Cut(line, ":")
		var into *int64
		switch key {
		case "VmRSS":
			into = &m.Resident
		case "VmHWM":
			into = &m.Peak
		case "RssFile":
			into = &m.Mapped
		default:
			continue
		}
		if _, err := fmt.Sscanf(value, "%d kB", into); err != nil {
			return m, fmt.Errorf("%s of node %s: %w", key, n.Name, err)
		}
		*into <<= 10
	}
	return m, nil
}

// ResetPeak lets Memory.Peak start anew.
func (n *Node) ResetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.PID()), []byte("5"), 0o200)
}

// CPU is the processor time that the process has used since its start, from the
// kernel, in hundredths of a second.
func (n *Node) CPU() (time.Duration, error) {
	path := fmt.Sprintf("/proc/%d/stat", n.PID())
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// The name in brackets may hold blanks; user and system time are the 12th and
	// 13th field behind it.
	_, rest, _ := strings.Cut(string(content), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s: %q", path, content)
	}
	var total time.Duration
	for _, field := range fields[11:13] {
		ticks, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		total += time.Duration(ticks) * (time.Second / 100)
	}
	return total, nil
}

// DiskUsage is what the node's data takes on the disk, in bytes.
func (n *Node) DiskUsage() (size int64, err error) {
	err = filepath.WalkDir(n.Data(), func(_ string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a running node deletes files
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// Wipe deletes the data of a node that doesn't run.
func (n *Node) Wipe() error {
	if n.Running() {
		return fmt.Errorf("node %s runs: stop it before its data is deleted", n.Name)
	}
	return os.RemoveAll(n.Data())
}
