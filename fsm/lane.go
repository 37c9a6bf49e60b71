package fsm

import (
	pb "holdfast/proto/holdfast/v1"
)

// Lane is a part of a destination's queue with a share of the slots of its own.
type Lane byte

// The lanes, in the order in which they get slots.
const (
	LaneFresh Lane = iota // no attempt yet
	LaneRetry             // deferred before
	LaneLast              // reports, and what was marked as spam and deferred
	Lanes
)

// laneOf is the lane that a recipient waits in. It follows from the records, so
// that a recipient changes lanes whenever its record does.
func laneOf(m *pb.MessageRecord, r *pb.RecipientRecord) Lane {
	switch {
	case len(m.ReportOn) > 0:
		return LaneLast
	case r.Attempts == 0 && r.LastError == nil && r.InDoubt == 0:
		return LaneFresh
	case r.Recipient.GetSpam():
		return LaneLast
	}
	return LaneRetry
}
