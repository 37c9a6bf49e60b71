package cluster

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// brokenStore fails its writes, after a time.
type brokenStore struct {
	raft.StableStore
	takes time.Duration
	err   error
}

func (s brokenStore) Set([]byte, []byte) error {
	<-time.After(s.takes)
	return s.err
}

func (s brokenStore) SetUint64([]byte, uint64) error { return s.Set(nil, nil) }

func TestStableWatchEndsTheNode(t *testing.T) {
	for _, test := range []struct {
		what  string
		store brokenStore
		want  string
	}{
		{"works", brokenStore{StableStore: raft.NewInmemStore()}, ""},
		{"fails", brokenStore{err: syscall.EIO}, "write term or vote: input/output error"},
		{"hangs", brokenStore{takes: time.Minute}, "a write of term or vote has not ended for 20s"},
	} {
		t.Run(test.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var fatal error
				watch := &stableWatch{StableStore: test.store, limit: 20 * time.Second, fatal: func(err error) { fatal = err }}
				for _, write := range []func() error{
					func() error { return watch.SetUint64([]byte("CurrentTerm"), 7) },
					func() error { return watch.Set([]byte("LastVoteCand"), []byte("a")) },
				} {
					fatal = nil
					if err := write(); !errors.Is(err, test.store.err) {
						t.Errorf("write: %v, want %v", err, test.store.err)
					}
					synctest.Wait()
					got := ""
					if fatal != nil {
						got = fatal.Error()
					}
					if !strings.HasPrefix(got, test.want) || (got == "") != (test.want == "") {
						t.Errorf("the node was ended with %q, want %q", got, test.want)
					}
				}
			})
		})
	}
}
