package fsm

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	pb "holdfast/proto/holdfast/v1"
)

func (w *world) upReading(node string, incarnation, replaces uint64, version uint32) *pb.EventResult {
	return w.fold(incarnation, &pb.Event{Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{
		Node: node, Incarnation: incarnation, Replaces: replaces, Reads: version,
	}}}, nil)
}

func raised(version uint32) *pb.Event {
	return &pb.Event{Kind: &pb.Event_VersionRaised{VersionRaised: &pb.VersionRaised{Version: version}}}
}

// A node that is down counts: it may come back with the program that it had.
func TestVersionWaitsForEveryNode(t *testing.T) {
	w := newWorld(t)
	if version := w.state.Version(); version != firstVersion {
		t.Errorf("a new state is of version %d", version)
	}
	w.upReading("a", 1, 0, 2)
	w.upReading("b", 2, 0, 0) // a program from before there were versions
	if r := w.down("b", 2); r.Code != pb.EventResult_CODE_OK {
		t.Fatal(r)
	}
	r := w.fold(0, raised(2), nil)
	if r.Code != pb.EventResult_CODE_STALE || !strings.Contains(r.Text, "the program of node b knows up to 1") {
		t.Errorf("raised over a node that can't read it: %v", r)
	}
	if r := w.fold(0, raised(1), nil); r.Code != pb.EventResult_CODE_STALE {
		t.Errorf("raised to where it is: %v", r)
	}
	if CommonVersion(w.state.Nodes()) != 1 {
		t.Error("an old program reads more than the first version")
	}
	checkState(t, w.state)
}

// A program that can't follow a raise stops in words, and says them again at
// each start: also where all that it has of the raise is a checkpoint.
func TestOlderProgramStopsInWords(t *testing.T) {
	state, err := Open(func() Config {
		cfg := stateConfig(t, t.TempDir(), nil)
		cfg.Fatal = func(error) {}
		return cfg
	}())
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	w := worldOf(t, state)
	w.upReading("a", 1, 0, Version+1)
	response := state.Apply(w.entry([]*pb.Event{w.header(0, raised(Version+1))}, [][]byte{nil}))
	if err, ok := response.(error); !ok || !strings.Contains(err.Error(), "this program knows up to 1: start the newer program") {
		t.Errorf("applying the raise: %v", response)
	}
}

func TestStateOfLaterVersionIsRefused(t *testing.T) {
	dir := t.TempDir()
	state := mustOpen(t, dir, nil)
	w := worldOf(t, state)
	w.up("a", 1, 0)
	record := proto.Clone(state.live.applied).(*pb.AppliedRecord)
	record.Version = Version + 1 // as a newer program leaves it
	if err := errors.Join(state.live.gen.db.Set(keyApplied, encode(record), pebble.NoSync), state.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(stateConfig(t, dir, nil)); err == nil || !strings.Contains(err.Error(), "start the newer program") {
		t.Errorf("open: %v", err)
	}
}

// An event is dated by its kind, or by a field anywhere in it.
func TestEventsAreDated(t *testing.T) {
	file := protodesc.ToFileDescriptorProto(pb.File_holdfast_v1_event_proto)
	date(file, "Event", "verify_marked", 2)
	date(file, "Settings", "drill_consent", 3)
	date(file, "Recipient", "spam", 4)
	changed, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	descriptor := changed.Messages().ByName("Event")
	d := datesOf(descriptor)
	for _, c := range []struct {
		event *pb.Event
		since uint32 // 0: always there
	}{
		{&pb.Event{Kind: &pb.Event_VerifyMarked{VerifyMarked: &pb.VerifyMarked{}}}, 2},
		{settingsChanged(&pb.Settings{DrillConsent: proto.Bool(false)}), 3},
		{settingsChanged(&pb.Settings{WarnPending: proto.Uint64(1)}), 0},
		{&pb.Event{Kind: &pb.Event_MessageAccepted{MessageAccepted: &pb.MessageAccepted{
			Recipients: []*pb.Recipient{{Address: "one"}, {Address: "two", Spam: true}},
		}}}, 4},
		{raised(2), 0},
	} {
		raw, err := proto.Marshal(c.event)
		if err != nil {
			t.Fatal(err)
		}
		event := dynamicpb.NewMessage(descriptor)
		if err := proto.Unmarshal(raw, event); err != nil {
			t.Fatal(err)
		}
		for version := uint32(1); version < 6; version++ {
			if late := d.later(event, version) != nil; late != (version < c.since) {
				t.Errorf("%v in a state of version %d: too early is %v", c.event, version, late)
			}
		}
	}
}

// Which field a refusal names, the order of the descriptor decides: a result is state.
func TestLateFieldsAreNamedInOrder(t *testing.T) {
	file := protodesc.ToFileDescriptorProto(pb.File_holdfast_v1_event_proto)
	for _, field := range []string{"verify_valid", "warn_pending", "drill_consent"} {
		date(file, "Settings", field, 2)
	}
	changed, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	descriptor := changed.Messages().ByName("Event")
	raw, err := proto.Marshal(settingsChanged(&pb.Settings{
		VerifyValid: proto.Int64(1), WarnPending: proto.Uint64(1), DrillConsent: proto.Bool(true),
	}))
	if err != nil {
		t.Fatal(err)
	}
	d := datesOf(descriptor)
	for range 50 { // a message of this kind has its fields in a map
		event := dynamicpb.NewMessage(descriptor)
		if err := proto.Unmarshal(raw, event); err != nil {
			t.Fatal(err)
		}
		if field := d.later(event, 1); field == nil || field.Name() != "warn_pending" {
			t.Fatalf("%v is named, want the first", field)
		}
	}
}

// date gives a field of a descriptor a version.
func date(file *descriptorpb.FileDescriptorProto, message, field string, since uint32) {
	for _, m := range file.MessageType {
		for _, f := range m.Field {
			if m.GetName() == message && f.GetName() == field {
				f.Options = &descriptorpb.FieldOptions{}
				proto.SetExtension(f.Options, pb.E_Since, since)
			}
		}
	}
}

func drill(id, node string, w *world) *pb.Event {
	return &pb.Event{Kind: &pb.Event_DrillStarted{DrillStarted: &pb.DrillStarted{
		Id: id, Fault: pb.Fault_FAULT_PARTITION, Node: node,
		Duration: int64(10e9), Until: w.now.UnixNano() + int64(60e9),
	}}}
}

func TestOneDrillAtATimeAndWithConsent(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.up("b", 2, 0)
	ended := func(id string) *pb.Event {
		return &pb.Event{Kind: &pb.Event_DrillEnded{DrillEnded: &pb.DrillEnded{Id: id}}}
	}
	if r := w.fold(1, ended(""), nil); r.Code != pb.EventResult_CODE_STALE {
		t.Errorf("the end of no drill while there is none: %v", r)
	}
	checkState(t, w.state)
	if r := w.fold(1, drill("one", "b", w), nil); r.Code != pb.EventResult_CODE_STALE || !strings.Contains(r.Text, "not allowed") {
		t.Errorf("a drill without consent: %v", r)
	}
	w.must(1, settingsChanged(&pb.Settings{DrillConsent: proto.Bool(true)}), nil)
	w.must(1, drill("two", "b", w), nil)
	if r := w.fold(2, drill("three", "a", w), nil); r.Code != pb.EventResult_CODE_IN_USE {
		t.Errorf("a second drill: %v", r)
	}
	checkState(t, w.state)
	// Its end was never told: the next one begins all the same once it has run out.
	w.now = w.now.Add(61e9)
	w.must(2, drill("four", "a", w), nil)
	if r := w.fold(1, ended("two"), nil); r.Code != pb.EventResult_CODE_STALE {
		t.Errorf("the end of another drill: %v", r)
	}
	w.must(1, ended("four"), nil)
	if _, running := w.state.Drill(); running {
		t.Error("a drill that ended runs")
	}
	if r := w.fold(1, ended(""), nil); r.Code != pb.EventResult_CODE_STALE {
		t.Errorf("the end of no drill: %v", r)
	}
	if r := w.fold(1, drill("five", "z", w), nil); r.Code != pb.EventResult_CODE_NOT_FOUND {
		t.Errorf("a drill on no node: %v", r)
	}
	checkState(t, w.state)
}
