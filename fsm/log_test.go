package fsm

import (
	"fmt"
	"slices"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/race"
)

// What the log is searched by, alone and together, in either order.
func TestSearch(t *testing.T) {
	w := newWorld(t)
	begin := w.now
	w.up("a", 1, 0)
	w.configure(1)
	const messages = 60
	number := make(map[string]int)
	for i := range messages {
		id := w.newID()
		number[id.String()] = i
		from := []string{"one@x.test", "two@x.test", ""}[i%3]
		event := accepted(id, testBody, from, fmt.Sprintf("r%d@example.test", i%2), "both@example.test")
		event.GetMessageAccepted().HeaderMessageId = fmt.Sprintf("<Header-%d@x.test>", i/4)
		w.must(1, event, testBody)
		switch i % 5 {
		case 0:
			w.must(1, claimOf(uint64(i+1), id, 0), nil)
			w.must(1, deferred(ref(1, uint64(i+1)), id, w.now.Add(time.Hour), 0), nil)
		case 1:
			w.must(1, &pb.Event{Kind: &pb.Event_Bounced{Bounced: &pb.Bounced{
				MessageId: id[:], Recipients: []*pb.Bounced_Recipient{{Recipient: 1, Failure: &pb.Failure{Code: 550, Text: "No Such User"}}},
			}}}, nil)
		}
		w.now = w.now.Add(time.Minute)
	}
	v := w.view()
	bounced := []pb.RecipientState{pb.RecipientState_RECIPIENT_STATE_BOUNCED}
	failed := append(slices.Clone(bounced), pb.RecipientState_RECIPIENT_STATE_FROZEN, pb.RecipientState_RECIPIENT_STATE_DELETED)
	for name, c := range map[string]struct {
		filter Filter
		want   func(i int) bool
	}{
		"header":            {Filter{HeaderMessageID: "header-3@X.test"}, func(i int) bool { return i/4 == 3 }},
		"header whole":      {Filter{HeaderMessageID: "<Header-3@x.test>", From: "one@x.test"}, func(i int) bool { return i/4 == 3 && i%3 == 0 }},
		"three indexes":     {Filter{From: "<>", To: "r1@example.test", States: bounced}, func(i int) bool { return i%3 == 2 && i%5 == 1 && false }},
		"bounced recipient": {Filter{From: "<>", To: "both@example.test", States: bounced}, func(i int) bool { return i%3 == 2 && i%5 == 1 }},
		"failed":            {Filter{States: failed}, func(i int) bool { return i%5 == 1 }},
		"reply":             {Filter{Reply: "450 LATER"}, func(i int) bool { return i%5 == 0 }},
		"reply to another":  {Filter{Reply: "no such user", To: "r1@example.test"}, func(int) bool { return false }},
		"reply and sender":  {Filter{Reply: "such", From: "two@x.test"}, func(i int) bool { return i%5 == 1 && i%3 == 1 }},
		"time":              {Filter{Since: begin.Add(20 * time.Minute), Until: begin.Add(30 * time.Minute)}, func(i int) bool { return i >= 20 && i < 30 }},
		"nothing":           {Filter{HeaderMessageID: "header"}, func(int) bool { return false }},
	} {
		var want []int
		for i := range messages {
			if c.want(i) {
				want = append(want, i)
			}
		}
		for _, oldest := range []bool{true, false} {
			c.filter.OldestFirst = oldest
			for _, limit := range []int{1, 4, 1000} {
				var got []int
				for cursor := []byte(nil); ; {
					ids, next, err := v.Log(c.filter, cursor, limit)
					if err != nil {
						t.Fatal(err)
					}
					for _, id := range ids {
						got = append(got, number[id.String()])
					}
					if cursor = next; cursor == nil {
						break
					}
				}
				if !oldest {
					slices.Reverse(got)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s, oldest first %v, %d a page: %v, want %v", name, oldest, limit, got, want)
				}
			}
		}
	}
	if _, _, err := v.Log(Filter{}, []byte("short"), 10); err == nil {
		t.Error("a cursor of another listing was taken")
	}
}

// Two long indexes without a message in common are not read to their ends in one
// call: it comes back with a cursor.
func TestSearchForNothingEndsInPieces(t *testing.T) {
	race.Sequential(t)
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	for range 3 * maxScanned / 2 {
		for n := range 2 {
			id := w.newID()
			w.must(1, accepted(id, testBody, fmt.Sprintf("s%d@x.test", n), fmt.Sprintf("r%d@example.test", n)), testBody)
		}
		w.now = w.now.Add(time.Second)
	}
	v := w.view()
	for _, oldest := range []bool{true, false} {
		calls := 1
		for cursor := []byte(nil); ; calls++ {
			ids, next, err := v.Log(Filter{From: "s0@x.test", To: "r1@example.test", OldestFirst: oldest}, cursor, 10)
			if err != nil || len(ids) != 0 {
				t.Fatalf("found %v, %v", ids, err)
			}
			if cursor = next; cursor == nil {
				break
			}
		}
		if calls < 2 || calls > 4 {
			t.Errorf("oldest first %v: %d calls", oldest, calls)
		}
	}
}
