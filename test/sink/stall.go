package sink

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// stall waits before the content is read; false where the connection ended
// meanwhile.
func (c *session) stall(until <-chan struct{}) bool {
	if until == nil {
		return true
	}
	// What was received before a reset can still be read after it, so reading
	// would tell of the reset too late.
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-until:
			return true
		case <-c.server.closing:
			return false
		case <-ticker.C:
			if wasReset(c.conn) {
				return false
			}
		}
	}
}

// wasReset asks the kernel whether the connection is over.
func wasReset(conn net.Conn) bool {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return true
	}
	over := false
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		over = err != nil || info.State == unix.BPF_TCP_CLOSE
	})
	return err != nil || over
}
