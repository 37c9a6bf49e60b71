package fsm

import (
	"hash/crc32"
	"io"
	"slices"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// bounced ends recipients, with a report under an id of its own whose body is testBody.
func bounced(claim *pb.ClaimRef, id, report relay.MessageID, recipients ...uint32) *pb.Event {
	e := &pb.Bounced{
		Claim: claim, MessageId: id[:], Reason: pb.Bounced_REASON_REJECTED,
		Report: &pb.Bounced_Report{MessageId: report[:], Content: &pb.Content{
			Size: uint64(len(testBody)), Crc32C: crc32.Checksum(testBody, castagnoli),
		}},
	}
	for _, n := range recipients {
		e.Recipients = append(e.Recipients, &pb.Bounced_Recipient{
			Recipient: n, Failure: &pb.Failure{Cause: "rejected", Phase: "rcpt", Code: 550, Text: "no such user"},
		})
	}
	return &pb.Event{Kind: &pb.Event_Bounced{Bounced: e}}
}

func (w *world) acceptFrom(from string, to ...string) relay.MessageID {
	w.t.Helper()
	id := w.newID()
	w.must(1, accepted(id, testBody, from, to...), testBody)
	return id
}

func TestBounceFilesItsReport(t *testing.T) {
	for name, c := range map[string]struct {
		sender, destination string
		state               pb.RecipientState
	}{
		"to a domain of ours":    {"boss@example.test", "dest", pending},
		"to a domain of nobody":  {"boss@elsewhere.test", "", frozenSt},
		"to a local part alone":  {"postmaster", "", frozenSt},
		"to a domain in capital": {"boss@EXAMPLE.TEST", "dest", pending},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.up("a", 1, 0)
			w.configure(1)
			id := w.acceptFrom(c.sender, "one@example.test", "two@example.test")
			w.must(1, claimOf(1, id, 0, 1), nil)
			report := w.newID()
			w.must(1, bounced(ref(1, 1), id, report, 0, 1), testBody)
			checkState(t, w.state)
			if r := w.recipientOf(id, 1); r.State != returned || r.LastError.GetCode() != 550 || r.Attempts != 1 || r.Claim != nil {
				t.Errorf("bounced recipient: %v", r)
			}
			r := w.recipientOf(report, 0)
			if r.State != c.state || r.Destination != c.destination || r.Recipient.Address != c.sender || r.Recipient.Notify != "NEVER" {
				t.Errorf("the report's recipient: %v", r)
			}
			v := w.view()
			m, err := v.Message(report)
			if err != nil || string(m.ReportOn) != string(id[:]) || m.Envelope.From != "" {
				t.Errorf("report: %v %v", m, err)
			}
			body, _, err := v.Body(report)
			if err != nil {
				t.Fatal(err)
			}
			if text, err := io.ReadAll(body); err != nil || string(text) != string(testBody) {
				t.Errorf("report's body: %q %v", text, err)
			}
			if err := body.Close(); err != nil {
				t.Error(err)
			}
			// A report that fails causes none.
			if c.state == pending {
				w.must(1, claimOf(2, report, 0), nil)
				w.must(1, frozenEvent(ref(1, 2), report, 0), nil)
				checkState(t, w.state)
				if r := w.recipientOf(report, 0); r.State != frozenSt || r.NextAttempt != 0 || r.Claim != nil {
					t.Errorf("frozen report: %v", r)
				}
			}
		})
	}
}

func frozenEvent(claim *pb.ClaimRef, id relay.MessageID, recipients ...uint32) *pb.Event {
	e := &pb.Frozen{Claim: claim, MessageId: id[:]}
	for _, n := range recipients {
		e.Recipients = append(e.Recipients, &pb.Frozen_Recipient{Recipient: n})
	}
	return &pb.Event{Kind: &pb.Event_Frozen{Frozen: e}}
}

// A bounce holds for all of its recipients or for none, and a refused one leaves
// nothing behind.
func TestRefusedBounces(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.acceptFrom("boss@example.test", "one@example.test", "two@example.test", "three@example.test")
	null := w.acceptFrom("", "one@example.test")
	w.must(1, claimOf(1, id, 0, 1), nil)
	fresh := w.newID()
	for name, c := range map[string]struct {
		event   *pb.Event
		payload []byte
		code    pb.EventResult_Code
	}{
		"one is not under the claim":    {bounced(ref(1, 1), id, fresh, 0, 2), testBody, codeStale},
		"one does not exist":            {bounced(ref(1, 1), id, fresh, 0, 9), testBody, codeStale},
		"another claim":                 {bounced(ref(1, 2), id, fresh, 0), testBody, codeStale},
		"expiry of what is claimed":     {bounced(nil, id, fresh, 0), testBody, codeStale},
		"a recipient twice":             {bounced(ref(1, 1), id, fresh, 0, 0), testBody, pb.EventResult_CODE_INVALID},
		"recipients in disorder":        {bounced(ref(1, 1), id, fresh, 1, 0), testBody, pb.EventResult_CODE_INVALID},
		"nobody":                        {bounced(nil, id, fresh), testBody, pb.EventResult_CODE_INVALID},
		"no such message":               {bounced(nil, fresh, w.newID(), 0), testBody, pb.EventResult_CODE_NOT_FOUND},
		"report to the null sender":     {bounced(nil, null, fresh, 0), testBody, pb.EventResult_CODE_INVALID},
		"report under the message's id": {bounced(ref(1, 1), id, id, 0, 1), testBody, pb.EventResult_CODE_INVALID},
		"report cut short":              {bounced(ref(1, 1), id, fresh, 0, 1), testBody[1:], pb.EventResult_CODE_INCOMPLETE},
		"frozen under another claim":    {frozenEvent(ref(1, 2), id, 0), nil, codeStale},
		"frozen twice":                  {frozenEvent(ref(1, 1), id, 0, 0), nil, pb.EventResult_CODE_INVALID},
	} {
		content := w.state.digests[famContent]
		recipients := w.state.digests[famRecipients]
		if r := w.fold(1, c.event, c.payload); r.Code != c.code {
			t.Errorf("%s: %v", name, r)
		}
		if w.state.digests[famContent] != content || w.state.digests[famRecipients] != recipients {
			t.Errorf("%s: the state has changed", name)
		}
		checkState(t, w.state)
	}
}

// An event without a time must not make a message end twice.
func TestMessageEndsOnceWithoutATime(t *testing.T) {
	w := newWorld(t)
	w.now = time.Unix(0, 0)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.accept(1, "one@example.test")
	w.must(1, claimOf(1, id, 0), nil)
	w.must(1, delivered(ref(1, 1), id, 0), nil)
	w.must(1, delivered(ref(1, 9), id, 0), nil)
	checkState(t, w.state)
}

// The last attempt's content went out whole and no reply came: the message is
// returned, but may have arrived. That stays visible.
func TestDoubtSurvivesTheEnd(t *testing.T) {
	doubt := &pb.Failure{Cause: "timeout", Phase: "dot", InDoubt: true}
	for name, end := range map[string]func(id, report relay.MessageID) *pb.Event{
		"bounced": func(id, report relay.MessageID) *pb.Event {
			e := bounced(ref(1, 1), id, report, 0)
			e.GetBounced().Recipients[0].Failure = doubt
			return e
		},
		"frozen": func(id, _ relay.MessageID) *pb.Event {
			e := frozenEvent(ref(1, 1), id, 0)
			e.GetFrozen().Recipients[0].Failure = doubt
			return e
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.up("a", 1, 0)
			w.configure(1)
			id := w.acceptFrom("boss@example.test", "one@example.test")
			w.must(1, claimOf(1, id, 0), nil)
			body := testBody
			if name == "frozen" {
				body = nil
			}
			w.must(1, end(id, w.newID()), body)
			if r := w.recipientOf(id, 0); r.InDoubt != 1 {
				t.Errorf("in doubt %d times, want once", r.InDoubt)
			}
			if kinds := w.historyKinds(id); !slices.Contains(kinds, pb.HistoryRecord_KIND_IN_DOUBT) {
				t.Errorf("history %v has no row of the doubt", kinds)
			}
			checkState(t, w.state)
		})
	}
}

func TestReportDeclaresItsBody(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.acceptFrom("boss@example.test", "one@example.test")
	w.must(1, claimOf(1, id, 0), nil)
	report := w.newID()
	e := bounced(ref(1, 1), id, report, 0)
	e.GetBounced().Report.BodyType = pb.BodyType_BODY_TYPE_8BITMIME
	w.must(1, e, testBody)
	m, err := w.view().Message(report)
	if err != nil || m.Envelope.BodyType != pb.BodyType_BODY_TYPE_8BITMIME {
		t.Errorf("report: %v %v", m, err)
	}
}

// What ends days after the attempt that left it in doubt isn't in doubt once more.
func TestExpiryAddsNoDoubt(t *testing.T) {
	w := newWorld(t)
	w.up("a", 1, 0)
	w.configure(1)
	id := w.acceptFrom("boss@example.test", "one@example.test")
	w.must(1, claimOf(1, id, 0), nil)
	silent := deferred(ref(1, 1), id, w.now.Add(time.Hour), 0)
	silent.GetAttemptFailed().Recipients[0].Failure = &pb.Failure{Cause: "timeout", Phase: "dot", InDoubt: true}
	w.must(1, silent, nil)
	record := w.recipientOf(id, 0)
	if record.InDoubt != 1 {
		t.Fatalf("in doubt %d times after one attempt", record.InDoubt)
	}
	expired := bounced(nil, id, w.newID(), 0)
	expired.GetBounced().Reason, expired.GetBounced().Recipients[0].Failure = pb.Bounced_REASON_EXPIRED, record.LastError
	w.must(1, expired, testBody)
	if r := w.recipientOf(id, 0); r.State != returned || r.InDoubt != 1 || r.Attempts != 1 {
		t.Errorf("expired: %v", r)
	}
	checkState(t, w.state)
}
