package fsm

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "holdfast/proto/holdfast/v1"
)

// seeded calls add with the entries of a few scripts.
func seeded(t tester, add func(data []byte)) {
	for seed := range 4 {
		script := newScript(t, picker([]byte{byte(seed), 7, 19, 31, 2, 23, 11, 5}))
		for _, entry := range script.setup()[1:] {
			add(entry.Data)
		}
		for range 25 {
			add(script.entry().Data)
		}
	}
}

// picker makes choices from bytes, and from numbers that follow from them once
// they are used up.
func picker(data []byte) func(int) int {
	rng := rand.New(rand.NewPCG(rowHash(nil, data), 0))
	return func(n int) int {
		if len(data) == 0 {
			return rng.IntN(n)
		}
		choice := int(data[0]) % n
		data = data[1:]
		return choice
	}
}

// FuzzDecodeEntry: what decodes is what an encoder would have written, or reads
// the same after it is written anew.
func FuzzDecodeEntry(f *testing.F) {
	seeded(f, func(data []byte) { f.Add(data) })
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		events, payloads, err := DecodeEntry(data)
		if err != nil {
			if !errors.Is(err, ErrEntry) {
				t.Fatalf("error of no known kind: %v", err)
			}
			return
		}
		again, err := EncodeEntry(events, payloads)
		if err != nil {
			t.Fatal(err)
		}
		events2, payloads2, err := DecodeEntry(again)
		if err != nil || len(events2) != len(events) || len(payloads2) != len(events) {
			t.Fatalf("%d events came back as %d: %v", len(events), len(events2), err)
		}
		for i := range events {
			if !proto.Equal(events[i], events2[i]) || string(payloads[i]) != string(payloads2[i]) {
				t.Errorf("event %d: %v came back as %v", i, events[i], events2[i])
			}
		}
	})
}

// FuzzApply folds any bytes as an entry into a state with mail in it.
func FuzzApply(f *testing.F) {
	seeded(f, func(data []byte) { f.Add(data) })
	f.Fuzz(func(t *testing.T, data []byte) {
		state, script := fuzzState(t, []byte{1, 2, 3, 4, 5})
		defer closeFuzzed(t, state)
		script.index++
		foldAnything(t, state, &raft.Log{Index: script.index, Term: 1, Type: raft.LogCommand, Data: data})
	})
}

// FuzzScript folds a random log whose events were damaged in a field here and
// there: set to an extreme, cleared, repeated.
func FuzzScript(f *testing.F) {
	for seed := range 30 {
		f.Add([]byte{byte(seed), byte(seed * 41), byte(seed * 97), 1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		state, script := fuzzState(t, data)
		defer closeFuzzed(t, state)
		for range 20 {
			entry := script.entry()
			events, payloads, err := DecodeEntry(entry.Data)
			if err != nil {
				t.Fatal(err)
			}
			for _, event := range events {
				for range script.pick(3) {
					damageEvent(event, script.pick)
				}
			}
			if entry.Data, err = EncodeEntry(events, payloads); err != nil {
				t.Fatal(err)
			}
			if !foldAnything(t, state, entry) {
				return
			}
		}
	})
}

func fuzzState(t *testing.T, data []byte) (*State, *script) {
	cfg := stateConfig(t, crashDir, vfs.NewMem())
	cfg.Fatal = func(error) {} // a kind that isn't known yet ends the node
	state, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	script := newScript(t, picker(data))
	fold(t, state, script.setup()...)
	for range 10 {
		fold(t, state, script.entry())
	}
	return state, script
}

// foldAnything reports whether the state goes on: it may end only for a kind of
// event that it doesn't know, and then as it was.
func foldAnything(t *testing.T, state *State, entry *raft.Log) bool {
	before := digestsOf(t, state)
	response := state.ApplyBatch([]*raft.Log{entry})[0]
	if _, ok := response.(*Applied); ok {
		checkState(t, state)
		return true
	}
	events, _, _ := DecodeEntry(entry.Data)
	for _, event := range events {
		if event.Kind == nil && !event.Ignorable {
			checkSameDigests(t, "after an unknown event", digestsOf(t, state), before)
			return false
		}
	}
	t.Fatalf("the state ended: %v", response)
	return false
}

func closeFuzzed(t *testing.T, state *State) {
	if err := state.Close(); err != nil && !state.hasFailed() {
		t.Errorf("close: %v", err)
	}
}

// damageEvent changes something in the header or, rather, in the fact itself; it
// leaves the kind as it is.
func damageEvent(event *pb.Event, pick func(int) int) {
	switch pick(16) {
	case 0:
		event.Incarnation = uint64(pick(5))
	case 1:
		event.LowestOpen = []uint64{0, event.Sequence + 1, math.MaxUint64}[pick(3)]
	case 2:
		event.Sequence = []uint64{0, 1, event.Sequence - 1, math.MaxUint64}[pick(4)]
	case 3:
		event.Time = []int64{0, -1, math.MaxInt64, math.MinInt64}[pick(4)]
	default:
		m := event.ProtoReflect()
		kind := m.WhichOneof(m.Descriptor().Oneofs().ByName("kind"))
		damage(m.Mutable(kind).Message(), pick)
	}
}

// damage changes one field of a message or of one inside it.
func damage(m protoreflect.Message, pick func(int) int) {
	fields := m.Descriptor().Fields()
	field := fields.Get(pick(fields.Len()))
	if !m.Has(field) && pick(4) > 0 {
		// Rather one that is in use.
		m.Range(func(used protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			field = used
			return pick(3) > 0
		})
	}
	switch {
	case pick(4) == 0:
		m.Clear(field)
	case field.IsList():
		damageList(m.Mutable(field).List(), field, pick)
	case field.Kind() == protoreflect.MessageKind:
		damage(m.Mutable(field).Message(), pick)
	default:
		m.Set(field, extreme(field, m.Get(field), pick))
	}
}

func damageList(list protoreflect.List, field protoreflect.FieldDescriptor, pick func(int) int) {
	switch {
	case list.Len() == 0 || pick(4) == 0:
		list.Append(list.NewElement())
	case pick(3) == 0:
		list.Append(list.Get(pick(list.Len())))
	case field.Kind() == protoreflect.MessageKind:
		damage(list.Get(pick(list.Len())).Message(), pick)
	default:
		at := pick(list.Len())
		list.Set(at, extreme(field, list.Get(at), pick))
	}
}

func extreme(field protoreflect.FieldDescriptor, old protoreflect.Value, pick func(int) int) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(!old.Bool())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString([]string{
			"", "\x00", "dest", "dest\x00", "example.test", "x@example.test\x00", "@", "a@b@example.test", "\n", "a\x00", "b",
		}[pick(11)])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([][]byte{nil, {0}, make([]byte, 15), make([]byte, 16), make([]byte, 17)}[pick(5)])
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(pick(12) - 1))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32([]uint32{0, 1, 2, 3, math.MaxUint32}[pick(5)])
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64([]uint64{0, 1, 2, 3, old.Uint() + 1, math.MaxUint64}[pick(6)])
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64([]int64{0, 1, -1, old.Int() + 1, math.MaxInt64, math.MinInt64}[pick(6)])
	}
	return old
}
