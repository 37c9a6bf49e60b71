package fsm

import (
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	pb "holdfast/proto/holdfast/v1"
)

// onlyRefused are kinds that a script can't have applied: the state is of the
// latest version.
var onlyRefused = map[protoreflect.Name]bool{"version_raised": true}

// The fuzz tests, the property tests and the recorded logs are made of scripts:
// a kind that those leave out is tested by nobody in company of the others.
func TestScriptsHaveEveryKind(t *testing.T) {
	tried, taken := map[protoreflect.Name]int{}, map[protoreflect.Name]int{}
	lacking := func() (names []protoreflect.Name) {
		kinds := (&pb.Event{}).ProtoReflect().Descriptor().Oneofs().ByName("kind").Fields()
		for i := range kinds.Len() {
			if kind := kinds.Get(i).Name(); tried[kind] == 0 || taken[kind] == 0 && !onlyRefused[kind] {
				names = append(names, kind)
			}
		}
		return names
	}
	// Some need what another one only seldom leaves behind.
	for seed := uint64(0); seed < 100 && len(lacking()) > 0; seed++ {
		script := newScript(t, rand.New(rand.NewPCG(seed, 5)).IntN)
		state := openState(t, t.TempDir(), nil)
		entries := script.setup()
		for range 150 {
			entries = append(entries, script.entry())
		}
		for _, entry := range entries {
			events, _, err := DecodeEntry(entry.Data)
			if err != nil {
				continue // of raft
			}
			applied := state.Apply(entry).(*Applied)
			for i, event := range events {
				kind := kindOf(event)
				tried[kind]++
				if applied.Results[i].Code == pb.EventResult_CODE_OK {
					taken[kind]++
				}
			}
		}
		checkState(t, state)
	}
	for _, kind := range lacking() {
		t.Errorf("%s: %d times in the scripts, %d times applied", kind, tried[kind], taken[kind])
	}
}

func kindOf(event *pb.Event) protoreflect.Name {
	m := event.ProtoReflect()
	if field := m.WhichOneof(m.Descriptor().Oneofs().ByName("kind")); field != nil {
		return field.Name()
	}
	return ""
}
