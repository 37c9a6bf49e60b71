package cluster

import (
	"errors"

	"github.com/hashicorp/raft"

	"holdfast/fsm"
)

var (
	// ErrUnknownOutcome: the event may or may not take effect. It is pursued
	// in the background unless ErrIncarnationEnded is wrapped too.
	ErrUnknownOutcome = errors.New("the outcome is unknown")
	// ErrNoQuorum: the event never went into the log and never will; no leader
	// took it in time.
	ErrNoQuorum = errors.New("no quorum")
	// ErrIncarnationEnded: the cluster counts this node's incarnation as gone.
	ErrIncarnationEnded = errors.New("the node's incarnation ended")
	// ErrTooLarge: the event is over fsm.MaxEvent.
	ErrTooLarge = errors.New("the event is too large")
	// ErrRemoved ends a node that an operator took out of the cluster.
	ErrRemoved = errors.New("was removed from the cluster")
	// ErrInvalid: the event can't be encoded.
	ErrInvalid = errors.New("the event is invalid")
)

// outcome is what became of an entry.
type outcome struct {
	kind    outcomeKind
	applied fsm.Applied
	err     error
}

type outcomeKind int

const (
	// outcomeUnknown: it may or may not be in the log.
	outcomeUnknown outcomeKind = iota
	outcomeApplied
	// outcomeRefused: it is surely not in the log.
	outcomeRefused
)

// raftOutcome classes the error of raft.Apply. Only what raft answers before
// it writes the entry is a refusal.
func raftOutcome(err error) outcome {
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrEnqueueTimeout) ||
		errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		return outcome{kind: outcomeRefused, err: err}
	}
	return outcome{kind: outcomeUnknown, err: err}
}
