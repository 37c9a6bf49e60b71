package smtpout

import (
	"net"
	"syscall"
	"unsafe"
)

// readable reports whether a read of the socket would not block: there is
// data, an end or an error. It takes nothing out.
func readable(conn net.Conn) bool {
	answer := false
	control(conn, func(fd uintptr) {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		answer = err != syscall.EAGAIN && err != syscall.EINTR
	})
	return answer
}

// acknowledged reports whether the peer's host has confirmed everything that
// was written. Where that can't be known it is false.
func acknowledged(conn net.Conn) bool {
	var queued int32
	errno := syscall.ENOTSUP
	control(conn, func(fd uintptr) {
		// SIOCOUTQ of tcp(7): octets that are unsent or unacknowledged.
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&queued)))
	})
	return errno == 0 && queued == 0
}

// control runs f on the socket, if conn is one that is open.
func control(conn net.Conn, f func(fd uintptr)) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	// An error means that f didn't run: the socket is closed.
	_ = raw.Control(f)
}
