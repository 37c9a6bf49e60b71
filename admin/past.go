package admin

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// rewind turns a window back to a past point, and names the listing of that
// point. It stays where it is for nil.
func (w *window) rewind(name string, at *pb.PastPoint) (string, error) {
	if at == nil {
		return name, nil
	}
	index, err := w.indexOf(at)
	if err != nil {
		return "", err
	}
	switch err := w.Rewind(index); {
	case errors.Is(err, fsm.ErrFuture):
		return "", status.Error(codes.OutOfRange, fmt.Sprintf("index %d is still to come: this node is at index %d", index, w.Index()))
	case err != nil:
		return "", w.pastError(err)
	}
	if w.now = timeOf(at.Time); w.now.IsZero() {
		if w.now, err = w.TimeOf(index); err != nil {
			return "", w.pastError(err)
		}
	}
	// Whether this node has a quorum now is no cause of what was then.
	w.quorum = true
	return fmt.Sprintf("%s at %d", name, index), nil
}

func (w *window) indexOf(at *pb.PastPoint) (uint64, error) {
	if at.Index != 0 {
		return at.Index, nil
	}
	if at.Time == nil {
		return 0, invalid("at", "a past point needs an index or a time")
	}
	t := at.Time.AsTime()
	if t.After(w.now) {
		return 0, invalid("at.time", "%s is still to come", t.UTC().Format(time.RFC3339))
	}
	index, err := w.IndexAt(t)
	if err != nil {
		return 0, w.pastError(err)
	}
	return index, nil
}

func (w *window) pastError(err error) error {
	if errors.Is(err, fsm.ErrForgotten) {
		begins := fmt.Sprintf("index %d", w.Forgotten())
		if first, err := w.Beginning(); err == nil {
			begins = first.Format(time.RFC3339) + ", " + begins
		}
		return status.Errorf(codes.OutOfRange,
			"nothing is kept of that time: the past begins at %s, by the retention of the log (`holdfast settings show`) or the age of the cluster", begins)
	}
	return readError(err, "the past")
}
