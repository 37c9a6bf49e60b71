package fsm

import (
	"fmt"
	"slices"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// mailbox is a state with a few hundred messages, accepted a minute apart.
type mailbox struct {
	*world
	begin time.Time
	ids   []relay.MessageID
}

const mailboxSize = 300

func newMailbox(t *testing.T) *mailbox {
	b := &mailbox{world: newWorld(t)}
	b.begin = b.now
	b.up("a", 1, 0)
	b.configure(1)
	b.must(1, destinationSet("other"), nil)
	b.must(1, domainSet("other.test", "other"), nil)
	for i := range mailboxSize {
		to := []string{fmt.Sprintf("user%d@example.test", i%7)}
		switch i % 3 {
		case 1:
			to = append(to, "second@example.test", "third@other.test")
		case 2:
			to = []string{"only@other.test"}
		}
		from := []string{"", "Sender@elsewhere.test", "boss@example.test", "boss@example.test"}[i%4]
		b.ids = append(b.ids, b.acceptFrom(from, to...))
		if i%5 == 0 {
			b.must(1, delivered(nil, b.ids[i], 0), nil) // those with one recipient have ended
		}
		b.now = b.now.Add(time.Minute)
	}
	checkState(t, b.state)
	return b
}

// where lists the numbers of the messages that match.
func (b *mailbox) where(matches func(i int) bool) []int {
	var list []int
	for i := range b.ids {
		if matches(i) {
			list = append(list, i)
		}
	}
	return list
}

func (b *mailbox) ended(i int) bool { return i%5 == 0 && i%3 != 1 }

// openAt reports whether a message has an open recipient in a domain.
func (b *mailbox) openAt(i int, domain string) bool {
	example := i%3 == 1 || i%3 == 0 && i%5 != 0
	other := i%3 == 1 || i%3 == 2 && i%5 != 0
	return domain == "example.test" && example || domain == "other.test" && other
}

type lister func(f Filter, cursor []byte, limit int) ([]relay.MessageID, []byte, error)

// pages lists all there is, page by page.
func (b *mailbox) pages(list lister, f Filter, limit int) []int {
	b.t.Helper()
	var found []int
	var cursor []byte
	for {
		ids, next, err := list(f, cursor, limit)
		if err != nil || len(ids) > limit {
			b.t.Fatalf("%+v: %d ids, %v", f, len(ids), err)
		}
		for _, id := range ids {
			found = append(found, slices.Index(b.ids, id))
		}
		if next == nil {
			return found
		}
		cursor = next
	}
}

func TestLog(t *testing.T) {
	b := newMailbox(t)
	v := b.view()
	since, until := b.begin.Add(100*time.Minute), b.begin.Add(200*time.Minute)
	for name, c := range map[string]struct {
		filter Filter
		want   []int
	}{
		"all":            {Filter{}, b.where(func(int) bool { return true })},
		"since":          {Filter{Since: since}, b.where(func(i int) bool { return i >= 100 })},
		"until":          {Filter{Until: until}, b.where(func(i int) bool { return i < 200 })},
		"between":        {Filter{Since: since, Until: until}, b.where(func(i int) bool { return i >= 100 && i < 200 })},
		"never":          {Filter{Since: until, Until: since}, nil},
		"the wrong way":  {Filter{Since: b.begin.Add(1e6 * time.Minute), Until: b.begin}, nil},
		"domain":         {Filter{Domain: "other.test"}, b.where(func(i int) bool { return i%3 != 0 })},
		"destination":    {Filter{Destination: "other"}, b.where(func(i int) bool { return i%3 != 0 })},
		"sender":         {Filter{From: "sender@ELSEWHERE.test"}, b.where(func(i int) bool { return i%4 == 1 })},
		"null sender":    {Filter{From: "<>"}, b.where(func(i int) bool { return i%4 == 0 })},
		"sender's host":  {Filter{From: "*@example.test"}, b.where(func(i int) bool { return i%4 >= 2 })},
		"recipient":      {Filter{To: "USER3@example.test"}, b.where(func(i int) bool { return i%3 != 2 && i%7 == 3 })},
		"recipient host": {Filter{To: "*@OTHER.test"}, b.where(func(i int) bool { return i%3 != 0 })},
		"state":          {Filter{States: []pb.RecipientState{done}}, b.where(func(i int) bool { return i%5 == 0 })},
		"recipient and sender": {Filter{To: "only@other.test", From: "<>", Since: since},
			b.where(func(i int) bool { return i >= 100 && i%3 == 2 && i%4 == 0 })},
		"nothing": {Filter{To: "nobody@example.test"}, nil},
	} {
		for _, limit := range []int{1, 7, 1000} {
			got := b.pages(v.Log, c.filter, limit)
			slices.Reverse(got) // newest first
			if !slices.Equal(got, c.want) {
				t.Errorf("%s, %d a page: %v, want %v", name, limit, got, c.want)
			}
		}
	}
}

func TestQueue(t *testing.T) {
	b := newMailbox(t)
	v := b.view()
	open := func(i int) bool { return !b.ended(i) }
	for name, c := range map[string]struct {
		filter Filter
		want   []int
	}{
		"all":         {Filter{}, b.where(open)},
		"domain":      {Filter{Domain: "other.test"}, b.where(func(i int) bool { return b.openAt(i, "other.test") })},
		"destination": {Filter{Destination: "dest"}, b.where(func(i int) bool { return b.openAt(i, "example.test") })},
		"pending":     {Filter{States: []pb.RecipientState{pending}}, b.where(open)},
		"held":        {Filter{States: []pb.RecipientState{held}}, nil},
		"sender":      {Filter{From: "<>"}, b.where(func(i int) bool { return open(i) && i%4 == 0 })},
		"recipient":   {Filter{To: "second@example.test"}, b.where(func(i int) bool { return i%3 == 1 })},
		"until":       {Filter{Until: b.begin.Add(50 * time.Minute)}, b.where(func(i int) bool { return open(i) && i < 50 })},
	} {
		for _, limit := range []int{1, 7, 1000} {
			got := b.pages(v.Queue, c.filter, limit)
			slices.Sort(got) // by domain, then by age
			if !slices.Equal(got, c.want) {
				t.Errorf("%s, %d a page: %v, want %v", name, limit, got, c.want)
			}
		}
	}
	for _, cursor := range [][]byte{{}, {0}, {0xff}, openPrefix("example.test"), append(openPrefix("other.test"), 0xff)} {
		if ids, _, err := v.Queue(Filter{Domain: "other.test"}, cursor, 5); err == nil && len(ids) > 0 {
			t.Errorf("cursor %x leads to %d messages", cursor, len(ids))
		}
	}
}

func TestWaitingAndOldest(t *testing.T) {
	b := newMailbox(t)
	for domain, destination := range map[string]string{"example.test": "dest", "other.test": "other"} {
		want := b.where(func(i int) bool { return b.openAt(i, domain) })
		var waiting, oldest []int
		var from QueueKey
		for {
			due, err := b.state.Waiting(destination, LaneFresh, from, 7)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range due {
				i := slices.Index(b.ids, d.ID)
				if !slices.Contains(waiting, i) { // once for each of its recipients
					waiting = append(waiting, i)
				}
				if !d.At.Equal(b.begin.Add(time.Duration(i) * time.Minute)) {
					t.Errorf("message %d is due at %s", i, d.At)
				}
				from = d.Key.Behind()
			}
			if len(due) < 7 {
				break
			}
		}
		if !slices.Equal(waiting, want) {
			t.Errorf("waiting for %s: %v, want %v", destination, waiting, want)
		}
		var found []OpenRecipient
		for _, class := range PendingClasses() {
			some, err := b.state.Oldest(domain, class, b.begin.Add(100*time.Minute), 1000)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, some...)
		}
		slices.SortStableFunc(found, func(x, y OpenRecipient) int { return x.AcceptedAt.Compare(y.AcceptedAt) })
		for _, o := range found {
			if i := slices.Index(b.ids, o.ID); !slices.Contains(oldest, i) {
				oldest = append(oldest, i)
			}
		}
		if before := want[:slices.IndexFunc(want, func(i int) bool { return i >= 100 })]; !slices.Equal(oldest, before) {
			t.Errorf("oldest of %s: %v, want %v", domain, oldest, before)
		}
		if few, err := b.state.Oldest(domain, ClassMail, b.now, 3); err != nil || len(few) != 3 {
			t.Errorf("oldest, three at most: %d, %v", len(few), err)
		}
	}
}

// A view and a body stay as they were, whatever is applied or restored after.
func TestViewsOutliveChanges(t *testing.T) {
	leader, follower := newWorld(t), newWorld(t)
	leader.ids = 1000 // other messages
	for _, w := range []*world{leader, follower} {
		w.configureCluster()
		w.up("a", 1, 0)
		w.configure(1)
	}
	id := follower.accept(1, "one@example.test")
	body, content, err := follower.state.Body(id)
	if err != nil {
		t.Fatal(err)
	}
	view := follower.view()
	before := view.Digests()
	follower.must(1, delivered(nil, id, 0), nil)
	for range 10 {
		leader.accept(1, "two@example.test")
	}
	if err := installFrom(leader.state, follower.state); err != nil {
		t.Fatal(err)
	}
	if _, err := follower.view().Message(id); err == nil {
		t.Error("the message is still there after the install")
	}
	text := make([]byte, content.Size)
	if n, err := body.Read(text); err != nil || string(text[:n]) != string(testBody) {
		t.Errorf("body: %q %v", text[:n], err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	if m, err := view.Message(id); err != nil || m.Open != 1 {
		t.Errorf("message in the view: %v %v", m, err)
	}
	checkSameDigests(t, "view", view.Digests(), before)
}
