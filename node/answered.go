package node

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// answered writes down, while a drill is under way, what the front door answers
// 250: a record beside the log, by which a loss would show. It is written before
// the reply, and without fsync: a drill ends a process, not a machine.
type answered struct {
	dir   string
	drill func() (*pb.DrillRecord, bool)
	now   func() time.Time
	log   *slog.Logger

	mu   sync.Mutex // guards the fields below
	of   string     // the drill that file is of
	file *os.File
}

// note is called by many sessions at once.
func (a *answered) note(id relay.MessageID) {
	drill, ok := a.drill()
	if !ok || a.now().UnixNano() > drill.Until {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.open(drill.Id)
	if err == nil {
		_, err = a.file.WriteString(id.String() + "\n")
	}
	if err != nil {
		a.log.Error("drill: an answer was not written down", "id", id.String(), "error", err)
	}
}

// open makes file that of a drill, also the one of before a restart. Only the
// latest drill's is kept. Guarded by mu.
func (a *answered) open(drill string) error {
	if a.of == drill && a.file != nil {
		return nil
	}
	if a.file != nil {
		if err := a.file.Close(); err != nil {
			return err
		}
		a.file = nil
	}
	old, err := filepath.Glob(filepath.Join(a.dir, "answered-*"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if path != a.path(drill) {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	a.file, err = os.OpenFile(a.path(drill), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	a.of = drill
	return err
}

func (a *answered) path(drill string) string { return filepath.Join(a.dir, "answered-"+drill) }

// answersAtOnce is how many ids list hands over at a time.
const answersAtOnce = 1000

// list hands over what was written down during a drill.
func (a *answered) list(drill string, each func(ids []string) error) error {
	if _, err := relay.ParseMessageID(drill); err != nil {
		return fmt.Errorf("drill %q: %w", drill, err) // it becomes part of a path
	}
	file, err := os.Open(a.path(drill))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	var ids []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if ids = append(ids, lines.Text()); len(ids) == answersAtOnce {
			if err := each(ids); err != nil {
				return err
			}
			ids = nil
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return each(ids)
}

func (a *answered) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file = nil
	return err
}
