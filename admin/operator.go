package admin

import (
	"net"
	"os/user"
	"strconv"
)

// localUser is the user of the process at the other end of the admin socket.
type localUser struct{ uid uint32 }

// Network is that of a Unix socket.
func (localUser) Network() string { return "unix" }

func (u localUser) String() string {
	id := strconv.FormatUint(uint64(u.uid), 10)
	if known, err := user.LookupId(id); err == nil {
		return "local user " + known.Username
	}
	return "local user " + id
}

// userListener tells who connects to the admin socket.
type userListener struct{ *net.UnixListener }

func (l userListener) Accept() (net.Conn, error) {
	conn, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	uid, ok := peerUser(conn)
	if !ok {
		return conn, nil
	}
	return userConn{conn, localUser{uid}}, nil
}

type userConn struct {
	net.Conn
	user localUser
}

// RemoteAddr is the user: a client's end of a Unix socket has no name.
func (c userConn) RemoteAddr() net.Addr { return c.user }
