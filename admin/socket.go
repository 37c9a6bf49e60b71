package admin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// SocketName is the admin socket's name in a node's data folder.
const SocketName = "admin.sock"

// ListenSocket opens the admin socket in a data folder. Whoever may open it is
// an administrator, so its mode is 0600. It replaces a socket that a killed
// node left behind, and refuses one that a node still answers on.
func ListenSocket(dataDir string) (net.Listener, error) {
	path := filepath.Join(dataDir, SocketName)
	// sockaddr_un has room for 107 bytes and a zero on Linux, and less elsewhere.
	if len(path) > 103 {
		return nil, fmt.Errorf("%s: the path of a socket has 103 bytes at most; choose a shorter data folder", path)
	}
	listener, err := listenUnix(path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
			return nil, errors.Join(fmt.Errorf("%s: another node runs on this data folder", path), conn.Close())
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove a dead socket: %w", err)
		}
		listener, err = listenUnix(path)
	}
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("admin socket: %w", err), listener.Close())
	}
	return userListener{listener}, nil
}

func listenUnix(path string) (*net.UnixListener, error) {
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}
