package fsm

import (
	"errors"
	"testing"

	pb "holdfast/proto/holdfast/v1"
)

func TestCheckEntry(t *testing.T) {
	encode := func(events ...*pb.Event) []byte {
		entry, err := EncodeEntry(events, make([][]byte, len(events)))
		if err != nil {
			t.Fatal(err)
		}
		return entry
	}
	for _, c := range []struct {
		what  string
		entry []byte
		ok    bool
	}{
		{"a known kind", encode(domainSet("example.test", "dest")), true},
		{"an unknown one that may be skipped", encode(&pb.Event{Ignorable: true}), true},
		{"an unknown one", encode(domainSet("example.test", "dest"), &pb.Event{Sequence: 2}), false},
		{"no entry at all", []byte("x"), false},
	} {
		if err := CheckEntry(c.entry, firstVersion); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
