package cluster

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// stableWatch is the store of term and vote that raft gets. It ends the node
// when a write fails or hangs: raft panics at a term that can't be kept, and
// goes on after a vote that can't.
type stableWatch struct {
	raft.StableStore
	limit time.Duration
	fatal func(error)
}

func (w *stableWatch) Set(key, value []byte) error {
	return w.write(func() error { return w.StableStore.Set(key, value) })
}

func (w *stableWatch) SetUint64(key []byte, value uint64) error {
	return w.write(func() error { return w.StableStore.SetUint64(key, value) })
}

func (w *stableWatch) write(write func() error) error {
	watchdog := time.AfterFunc(w.limit, func() {
		w.fatal(fmt.Errorf("a write of term or vote has not ended for %s", w.limit))
	})
	err := write()
	watchdog.Stop()
	if err != nil {
		err = fmt.Errorf("write term or vote: %w", err)
		w.fatal(err)
	}
	return err
}
