package fsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// sent is a message as the test remembers it.
type sent struct {
	id         relay.MessageID
	from       string
	at         time.Time
	header     string
	recipients []sentTo
}

type sentTo struct {
	address, domain, destination string
	state                        pb.RecipientState
	reply                        string // what the remote said, in lower case
}

// Whatever is combined in a search of the log, it finds what a look at every
// message finds, in the order of acceptance, whatever the size of a page.
func TestSearchFindsWhatALookAtAllFinds(t *testing.T) {
	w := newWorld(t)
	begin := w.now
	w.up("a", 1, 0)
	w.configure(1)
	w.must(1, destinationSet("second"), nil)
	w.must(1, domainSet("other.test", "second"), nil)
	const messages = 150
	random := rand.New(rand.NewPCG(6, 20))
	var all []sent
	for n := range messages {
		all = append(all, w.send(random, n))
		w.now = w.now.Add(time.Minute)
	}
	v := w.view()
	rapid.Check(t, func(t *rapid.T) {
		f := drawFilter(t, begin, messages)
		limit := rapid.SampledFrom([]int{1, 7, 500}).Draw(t, "page")
		var want, got []relay.MessageID
		for _, m := range all {
			if m.matches(f) {
				want = append(want, m.id)
			}
		}
		if !f.OldestFirst {
			slices.Reverse(want)
		}
		for cursor := []byte(nil); ; {
			ids, next, err := v.Log(f, cursor, limit)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, ids...)
			if cursor = next; cursor == nil {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%+v, %d a page: %d messages %v, want %d %v", f, limit, len(got), got, len(want), want)
		}
	})
}

// send has a message accepted, and each recipient meet its fate.
func (w *world) send(random *rand.Rand, n int) sent {
	w.t.Helper()
	m := sent{
		id: w.newID(), at: w.now, header: fmt.Sprintf("<%d@client.test>", n/3),
		from: []string{"a@one.test", "b@one.test", "a@two.test", ""}[random.IntN(4)],
	}
	var addresses []string
	for _, user := range random.Perm(4)[:1+random.IntN(3)] {
		to := sentTo{domain: "example.test", destination: "dest", state: pb.RecipientState_RECIPIENT_STATE_PENDING}
		if random.IntN(2) == 0 {
			to.domain, to.destination = "other.test", "second"
		}
		to.address = fmt.Sprintf("u%d@%s", user, to.domain)
		m.recipients, addresses = append(m.recipients, to), append(addresses, to.address)
	}
	event := accepted(m.id, testBody, m.from, addresses...)
	event.GetMessageAccepted().HeaderMessageId = m.header
	w.must(1, event, testBody)
	for i := range m.recipients {
		w.meetFate(random.IntN(4), m.id, uint32(i), &m.recipients[i], uint64(n*4+i+1))
	}
	return m
}

func (w *world) meetFate(fate int, id relay.MessageID, number uint32, to *sentTo, attempt uint64) {
	w.t.Helper()
	if fate == 0 {
		return // it waits
	}
	claim := claimOf(attempt, id, number)
	claim.GetAttemptStarted().Claims[0].Destination = to.destination
	w.must(1, claim, nil)
	switch fate {
	case 1:
		to.reply = "450 later"
		w.must(1, deferred(ref(1, attempt), id, w.now.Add(time.Hour), number), nil)
	case 2:
		to.reply, to.state = "250 ok", pb.RecipientState_RECIPIENT_STATE_DELIVERED
		w.must(1, delivered(ref(1, attempt), id, number), nil)
	case 3:
		to.reply, to.state = "550 no such user", pb.RecipientState_RECIPIENT_STATE_BOUNCED
		w.must(1, &pb.Event{Kind: &pb.Event_Bounced{Bounced: &pb.Bounced{
			Claim: ref(1, attempt), MessageId: id[:],
			Recipients: []*pb.Bounced_Recipient{{Recipient: number, Failure: &pb.Failure{Code: 550, Text: "No such user"}}},
		}}}, nil)
	}
}

func drawFilter(t *rapid.T, begin time.Time, messages int) Filter {
	pick := func(name string, from ...string) string {
		// Most filters have few parts, as most searches do.
		if rapid.IntRange(0, 2).Draw(t, "with "+name) > 0 {
			return ""
		}
		return rapid.SampledFrom(from).Draw(t, name)
	}
	f := Filter{
		Domain:      pick("domain", "example.test", "other.test", "none.test"),
		Destination: pick("destination", "dest", "second"),
		From:        pick("from", "a@one.test", "b@one.test", "*@one.test", "*@two.test", "<>", "x@one.test"),
		To:          pick("to", "u0@example.test", "u1@other.test", "*@example.test", "u9@example.test"),
		Reply:       pick("reply", "LATER", "450", "such user", "unheard of"),
		OldestFirst: rapid.Bool().Draw(t, "oldest first"),
	}
	if header := rapid.IntRange(-60, messages/3).Draw(t, "header"); header >= 0 {
		f.HeaderMessageID = fmt.Sprintf("<%d@client.test>", header)
	}
	if rapid.Bool().Draw(t, "with states") {
		f.States = rapid.SliceOfNDistinct(rapid.SampledFrom([]pb.RecipientState{
			pb.RecipientState_RECIPIENT_STATE_PENDING, pb.RecipientState_RECIPIENT_STATE_DELIVERED,
			pb.RecipientState_RECIPIENT_STATE_BOUNCED, pb.RecipientState_RECIPIENT_STATE_HELD,
		}), 1, 3, rapid.ID).Draw(t, "states")
	}
	minutes := rapid.IntRange(-messages, messages)
	if since := minutes.Draw(t, "since"); since >= 0 {
		f.Since = begin.Add(time.Duration(since) * time.Minute)
	}
	if until := minutes.Draw(t, "until"); until >= 0 {
		f.Until = begin.Add(time.Duration(until) * time.Minute)
	}
	return f
}

// matches looks at one message, the slow and plain way.
func (m sent) matches(f Filter) bool {
	if f.From != "" && !fits(m.from, f.From) || f.HeaderMessageID != "" && m.header != f.HeaderMessageID {
		return false
	}
	if !f.Since.IsZero() && m.at.Before(f.Since) || !f.Until.IsZero() && !m.at.Before(f.Until) {
		return false
	}
	return slices.ContainsFunc(m.recipients, func(r sentTo) bool {
		return (f.Domain == "" || r.domain == f.Domain) && (f.Destination == "" || r.destination == f.Destination) &&
			(f.To == "" || fits(r.address, f.To)) && (len(f.States) == 0 || slices.Contains(f.States, r.state)) &&
			(f.Reply == "" || strings.Contains(r.reply, strings.ToLower(f.Reply)))
	})
}

func fits(address, pattern string) bool {
	if domain, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(address, domain)
	}
	return address == pattern || address == "" && pattern == "<>"
}
