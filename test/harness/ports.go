package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// taken are the ports that this process was given. It keeps them to its end: a node
// comes back to its own, and until then nobody listens there.
var taken struct {
	mu    sync.Mutex // guards files
	files []*os.File // each locked
}

// FreeAddresses finds host:port on loopback below the range from which the
// kernel takes the ports of outgoing connections: else a node that restarts
// under load may find its own port taken by someone's connection. No other
// process that asks here is given them as long as this one runs.
func FreeAddresses(count int) ([]string, error) {
	const first, end = 20000, 32768
	taken.mu.Lock()
	defer taken.mu.Unlock()
	var found []string
	start := rand.IntN(end - first)
	for i := 0; i < end-first && len(found) < count; i++ {
		port := first + (start+i)%(end-first)
		file := take(port)
		if file == nil {
			continue
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		listener, err := net.Listen("tcp", address)
		if err == nil {
			err = listener.Close()
		}
		if err != nil { // somebody has it who doesn't ask here
			if err := file.Close(); err != nil {
				return nil, err
			}
			continue
		}
		taken.files = append(taken.files, file)
		found = append(found, address)
	}
	if len(found) < count {
		return nil, fmt.Errorf("harness: %d free ports wanted, %d found", count, len(found))
	}
	return found, nil
}

// take locks a port's file, which ends with the process; nil where another has it.
func take(port int) *os.File {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("holdfast-port-%d", port))
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil // somebody else's
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close() // nothing was written
		return nil
	}
	return file
}
