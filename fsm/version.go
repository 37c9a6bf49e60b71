package fsm

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "holdfast/proto/holdfast/v1"
)

// Version is the latest version of the state that this program can apply. Which
// one the state is of stands in the state itself: every cluster begins with
// firstVersion, and VersionRaised takes it further once all nodes can follow.
// Apply goes by the state's version, never by this one.
const Version = 1

const firstVersion = 1

// ErrVersion is wrapped where an event belongs to a later version than the
// state's: it would stop the nodes that run an older program.
var ErrVersion = errors.New("not in this version of the state")

// familySince is the version from which a family may have rows: before that its
// digest isn't compared, since older programs have none.
func familySince(f family) uint32 {
	switch f {
	default:
		return firstVersion
	}
}

// CheckVersion refuses an event of a later version than the state's, by its kind
// or by any field that is set in it.
func CheckVersion(event *pb.Event, version uint32) error {
	if !dated.has[event.ProtoReflect().Descriptor().FullName()] {
		return nil
	}
	if field := dated.later(event.ProtoReflect(), version); field != nil {
		return fmt.Errorf("%w: %s comes with version %d, the state is of version %d; `holdfast status` shows which nodes have an older program",
			ErrVersion, field.Name(), dated.since[field.FullName()], version)
	}
	return nil
}

// dates are the fields of events that came after the first version.
type dates struct {
	since map[protoreflect.FullName]uint32
	has   map[protoreflect.FullName]bool // messages with such a field in them, at any depth
}

// later is the first field set in a message that has a later version. It goes in the
// order of the descriptor: that of Range differs from build to build, and the field's
// name comes into the event's result.
func (d *dates) later(m protoreflect.Message, version uint32) protoreflect.FieldDescriptor {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !m.Has(field) {
			continue
		}
		if d.since[field.FullName()] > version {
			return field
		}
		if found := d.laterIn(field, m.Get(field), version); found != nil {
			return found
		}
	}
	return nil
}

// laterIn looks into a field that is set. Events have no maps: their order would
// reach the state.
func (d *dates) laterIn(field protoreflect.FieldDescriptor, value protoreflect.Value, version uint32) protoreflect.FieldDescriptor {
	if field.Message() == nil || !d.has[field.Message().FullName()] {
		return nil
	}
	if !field.IsList() {
		return d.later(value.Message(), version)
	}
	for i := range value.List().Len() {
		if found := d.later(value.List().Get(i).Message(), version); found != nil {
			return found
		}
	}
	return nil
}

// dated is read from the descriptors once; it never changes.
var dated = datesOf((&pb.Event{}).ProtoReflect().Descriptor())

func datesOf(event protoreflect.MessageDescriptor) dates {
	d := dates{since: map[protoreflect.FullName]uint32{}, has: map[protoreflect.FullName]bool{}}
	d.visit(event)
	return d
}

// visit reports whether a message has a dated field. No event contains itself.
func (d *dates) visit(m protoreflect.MessageDescriptor) bool {
	if known, seen := d.has[m.FullName()]; seen {
		return known
	}
	dated := false
	for i := range m.Fields().Len() {
		field := m.Fields().Get(i)
		if since, _ := proto.GetExtension(field.Options(), pb.E_Since).(uint32); since > firstVersion {
			d.since[field.FullName()] = since
			dated = true
		}
		if field.Message() != nil && d.visit(field.Message()) {
			dated = true
		}
	}
	d.has[m.FullName()] = dated
	return dated
}

// reads is the latest version that a node's program can apply.
func reads(record interface{ GetReads() uint32 }) uint32 {
	return max(firstVersion, record.GetReads())
}

// CommonVersion is the latest version that the programs of all these nodes can
// apply, whether or not they are up: each may come back as it was.
func CommonVersion(nodes []*pb.NodeRecord) uint32 {
	common := uint32(Version)
	for _, node := range nodes {
		common = min(common, reads(node))
	}
	return common
}

// CheckReader refuses a node whose program is too old for the state.
func (s *State) CheckReader(node string, r interface{ GetReads() uint32 }) error {
	if version := s.Version(); reads(r) < version {
		return tooOld(node, reads(r), version)
	}
	return nil
}

func tooOld(node string, reads, version uint32) error {
	return fmt.Errorf("the cluster's state is of version %d and the program of node %s knows up to %d: start the newer program there", version, node, reads)
}

// checkOwn refuses a state that this program is too old for.
func checkOwn(version uint32) error {
	if version > Version {
		return fmt.Errorf("the state is of version %d, this program knows up to %d: start the newer program", version, Version)
	}
	return nil
}

// Version is that of the state here.
func (s *State) Version() uint32 { return s.published().version }

// Version is the state's at the view's index.
func (v *View) Version() uint32 { return v.tables.version }
