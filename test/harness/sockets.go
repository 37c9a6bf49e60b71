package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sockets tells which process has a connection. It reads /proc, which shows our own
// children without privileges.
type sockets struct {
	begun atomic.Int64 // readings of the table

	mu    sync.Mutex // guards what follows
	read  int64      // the reading that table is from
	table string
}

// owner finds which of the processes has the client end of a loopback connection from
// a port to another: every node dials from 127.0.0.1, so the address alone says
// nothing. The kernel's table may lack a connection that is there when others come and
// go while it is read, so it is looked for more than once: one without an owner would
// pass through every cut.
func (s *sockets) owner(ctx context.Context, from, to int, processes map[string]int) (name string, err error) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for range 20 {
		if name, err = s.ownerNow(from, to, processes); err == nil {
			return name, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return "", err
}

func (s *sockets) ownerNow(from, to int, processes map[string]int) (string, error) {
	inode, err := s.inode(from, to)
	if err != nil {
		return "", err
	}
	want := "socket:[" + inode + "]"
	for name, pid := range processes {
		folder := fmt.Sprintf("/proc/%d/fd", pid)
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue // the process has just ended
		}
		for _, entry := range entries {
			if target, err := os.Readlink(filepath.Join(folder, entry.Name())); err == nil && target == want {
				return name, nil
			}
		}
	}
	return "", fmt.Errorf("port %d to port %d belongs to no node", from, to)
}

// inode takes apart only the lines that have the port at either end, as the table has
// thousands of closed connections under load. A port may have connections to several
// others at the same time.
func (s *sockets) inode(from, to int) (string, error) {
	table, err := s.now()
	if err != nil {
		return "", err
	}
	end, other := fmt.Sprintf(":%04X ", from), fmt.Sprintf(":%04X", to)
	for line := range strings.Lines(table) {
		if !strings.Contains(line, end) {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) >= 10 && strings.HasSuffix(fields[1]+" ", end) && strings.HasSuffix(fields[2], other) && fields[9] != "0" {
			return fields[9], nil
		}
	}
	return "", fmt.Errorf("no socket goes from port %d to port %d", from, to)
}

// now is the table as it is, or was since the caller asked. One reading serves all who
// wait for one: where each of hundreds of connections read it a busy machine fell
// behind, the nodes gave up and dialled anew, and so on.
func (s *sockets) now() (string, error) {
	asked := s.begun.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read > asked {
		return s.table, nil
	}
	read := s.begun.Add(1)
	table, err := os.ReadFile("/proc/net/tcp") // whoever dials 127.0.0.1 has no IPv6 socket
	if err != nil {
		return "", err
	}
	s.read, s.table = read, string(table)
	return s.table, nil
}
