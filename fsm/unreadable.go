package fsm

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// NoteUnreadable keeps that a body couldn't be read where it was needed: what reading
// all rows would have found later. RowCheck tells it until the next CheckRows has
// looked for itself.
func (s *State) NoteUnreadable(id relay.MessageID, why error) {
	s.unreadable.Store(&pb.RowCheck_Damage{
		Family: familyName(famContent), Text: fmt.Sprintf("the body of message %s can't be read: %v", id, why),
	})
}

func familyName(f family) string {
	for _, known := range replicated {
		if known.family == f {
			return known.name
		}
	}
	return ""
}

// RowCheck is the result of the latest CheckRows, with what was found unreadable
// since; nil where there was neither since the start. Its time is 0 where only the
// latter was.
func (s *State) RowCheck() *pb.RowCheck {
	check, found := s.rowCheck.Load(), s.unreadable.Load()
	if check == nil && found == nil {
		return nil
	}
	known := &pb.RowCheck{}
	if check != nil {
		known = proto.CloneOf(check)
	}
	if found != nil && !slices.ContainsFunc(known.Damages, func(d *pb.RowCheck_Damage) bool { return d.Family == found.Family }) {
		known.Damages = append(known.Damages, proto.CloneOf(found))
		slices.SortFunc(known.Damages, func(a, b *pb.RowCheck_Damage) int { return cmp.Compare(a.Family, b.Family) })
	}
	return known
}
