package admin

import (
	"net"
	"syscall"
)

// peerUser is the user id of the process at the other end.
func peerUser(conn *net.UnixConn) (uid uint32, ok bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, false
	}
	var credentials *syscall.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		credentials, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if controlErr != nil || err != nil {
		return 0, false
	}
	return credentials.Uid, true
}
