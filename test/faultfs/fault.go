package faultfs

import (
	"fmt"
	"path"
	"strings"
	"sync"
	"syscall"
)

// Op is a set of kinds of calls.
type Op uint8

// The kinds.
const (
	Write  Op = 1 << iota // write, truncate, fallocate
	Sync                  // fsync and fdatasync, of a file or a folder
	Create                // open with O_CREAT that makes a file, mkdir, mknod, link
	Rename                // by its new name
	Remove                // unlink and rmdir
)

// Fault says which calls go wrong, and how.
type Fault struct {
	// Pattern of path.Match, on the path relative to the mount point; "DIR/**"
	// is all below DIR, at any depth, and DIR itself; "**" is everything.
	Pattern string
	Ops     Op
	Skip    int // so many matching calls go well before the first that doesn't
	Times   int // so many calls go wrong; 0 is all

	Errno syscall.Errno // the call fails with it and does nothing
	Hang  bool          // the call doesn't return before the fault is lifted, and then does its work
	Lie   bool          // fsync reports success and makes nothing durable
}

func (f Fault) validate() error {
	ways := 0
	for _, set := range []bool{f.Errno != 0, f.Hang, f.Lie} {
		if set {
			ways++
		}
	}
	switch _, err := path.Match(f.Pattern, "x"); {
	case err != nil:
		return fmt.Errorf("faultfs: pattern %q: %w", f.Pattern, err)
	case f.Pattern == "" || f.Ops == 0:
		return fmt.Errorf("faultfs: a fault needs a pattern and the kinds of calls")
	case ways != 1:
		return fmt.Errorf("faultfs: a fault has one of Errno, Hang and Lie")
	case f.Lie && f.Ops != Sync:
		return fmt.Errorf("faultfs: only Sync can lie")
	case f.Skip < 0 || f.Times < 0:
		return fmt.Errorf("faultfs: Skip and Times can't be negative")
	}
	return nil
}

func (f Fault) matches(op Op, name string) bool {
	if f.Ops&op == 0 {
		return false
	}
	if f.Pattern == "**" {
		return true
	}
	if dir, below := strings.CutSuffix(f.Pattern, "/**"); below {
		// The pattern's folder against as many leading parts of the name.
		parts := strings.Split(name, "/")
		depth := strings.Count(dir, "/") + 1
		if len(parts) < depth {
			return false
		}
		ok, _ := path.Match(dir, strings.Join(parts[:depth], "/")) // validated
		return ok
	}
	ok, _ := path.Match(f.Pattern, name) // validated
	return ok
}

// Injected is a fault at work.
type Injected struct {
	fault Fault
	first chan struct{} // closed by the first call that goes wrong
	gone  chan struct{} // closed by Lift

	mu     sync.Mutex // guards all below
	calls  int        // that matched
	hits   int        // that went wrong
	lifted bool
}

// Hit is closed when the first call has gone wrong.
func (i *Injected) Hit() <-chan struct{} { return i.first }

// Hits is how many calls went wrong so far.
func (i *Injected) Hits() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.hits
}

// Lift ends the fault; calls that hang go on. Lifting again does nothing.
func (i *Injected) Lift() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.lifted {
		i.lifted = true
		close(i.gone)
	}
}

// strikes counts a call that may match, and reports whether it goes wrong.
func (i *Injected) strikes(op Op, name string) bool {
	if !i.fault.matches(op, name) {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.calls++
	if i.lifted || i.calls <= i.fault.Skip || i.fault.Times > 0 && i.hits >= i.fault.Times {
		return false
	}
	i.hits++
	if i.hits == 1 {
		close(i.first)
	}
	return true
}

// faults are those at work now.
type faults struct {
	mu   sync.Mutex // guards list
	list []*Injected
}

func (f *faults) add(fault Fault) (*Injected, error) {
	if err := fault.validate(); err != nil {
		return nil, err
	}
	i := &Injected{fault: fault, first: make(chan struct{}), gone: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, i)
	return i, nil
}

func (f *faults) liftAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.list {
		i.Lift()
	}
	f.list = nil
}

// meet lets a call run into the faults: it may wait, fail, or be told to lie.
func (f *faults) meet(op Op, name string) (lie bool, errno syscall.Errno) {
	f.mu.Lock()
	list := f.list[:len(f.list):len(f.list)]
	f.mu.Unlock()
	for _, i := range list {
		if !i.strikes(op, name) {
			continue
		}
		switch {
		case i.fault.Hang:
			// A disk that hangs can't be interrupted, not even by SIGKILL.
			<-i.gone
		case i.fault.Lie:
			lie = true
		default:
			return false, i.fault.Errno
		}
	}
	return lie, 0
}
