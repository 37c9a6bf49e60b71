package node

import (
	"fmt"
	"math"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// What a node needs file descriptors for besides SMTP clients: state, log, peers
// and what doors let in, and one for each connection to a destination.
const (
	ownDescriptors = 600 + 2*maxStrangers
	leastClients   = 50
)

// limits are what the system allows the process.
type limits struct {
	descriptors uint64
	memory      int64 // GOMEMLIMIT, 0 where there is none
}

// systemLimits reads the limits in force. The Go runtime has raised the one of
// descriptors as far as it may, and keeps GOMEMLIMIT by itself.
func systemLimits() (limits, error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return limits{}, fmt.Errorf("limit of file descriptors: %w", err)
	}
	l := limits{descriptors: files.Cur, memory: debug.SetMemoryLimit(-1)}
	if l.memory == math.MaxInt64 {
		l.memory = 0
	}
	return l, nil
}

// clients is how many SMTP connections fit: half of what is left for them and
// for deliveries, at most most.
func (l limits) clients(most int) (int, error) {
	if l.descriptors < ownDescriptors+2*leastClients {
		return 0, fmt.Errorf("%d file descriptors are too few for a node: allow it at least %d (ulimit -n, or LimitNOFILE in systemd)",
			l.descriptors, ownDescriptors+2*leastClients)
	}
	room := (l.descriptors - ownDescriptors) / 2
	return int(min(room, uint64(most))), nil
}
