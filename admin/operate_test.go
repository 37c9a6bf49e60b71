package admin_test

import (
	"errors"
	"fmt"
	"io"
	"os/user"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

const (
	held = pb.RecipientState_RECIPIENT_STATE_HELD
	gone = pb.RecipientState_RECIPIENT_STATE_DELETED
)

const (
	retry    = pb.Operation_KIND_RETRY
	hold     = pb.Operation_KIND_HOLD
	release  = pb.Operation_KIND_RELEASE
	remove   = pb.Operation_KIND_DELETE
	undelete = pb.Operation_KIND_UNDELETE
	bounce   = pb.Operation_KIND_BOUNCE
	redirect = pb.Operation_KIND_REDIRECT
	thaw     = pb.Operation_KIND_THAW
)

func operate(kind pb.Operation_Kind, ids ...string) *pb.OperateQueuedRequest {
	return &pb.OperateQueuedRequest{Operation: &pb.QueueOperation{Kind: kind, Reason: "ticket 4711"}, Ids: ids}
}

// stateOf is a message's state as the log shows it.
func stateOf(t *testing.T, c client, id string) *pb.Message {
	t.Helper()
	got, err := c.GetLog(t.Context(), &pb.GetLogRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	return got.Message
}

func TestRetryMakesDueNow(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	id := w.Accept(time.Hour, "s@x.test", "r@one.test")
	w.Claim(1, id, "one")
	c := dial(t, w)
	_, err := c.OperateQueued(t.Context(), operate(retry, id.String()))
	wantCode(t, err, codes.FailedPrecondition, "is being tried right now")
	w.Defer(1, id, "one", time.Hour)
	if _, err := c.OperateQueued(t.Context(), operate(retry, id.String())); err != nil {
		t.Fatal(err)
	}
	got, err := c.GetQueued(t.Context(), &pb.GetQueuedRequest{Id: id.String()})
	if err != nil || !got.Message.Recipients[0].NextAttempt.AsTime().Equal(admintest.Now) {
		t.Errorf("next attempt %v, %v", got, err)
	}
}

// Held mail may have killed its deliverers: a retry leaves it alone, a release
// doesn't.
func TestOnlyReleaseFreesHeldMail(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	id := w.Accept(time.Hour, "s@x.test", "r@one.test")
	w.Hold(id, "one")
	c := dial(t, w)
	_, err := c.OperateQueued(t.Context(), operate(retry, id.String()))
	wantCode(t, err, codes.FailedPrecondition, "is held")
	if b := runBulk(t, c, retry, nil, true); b.Recipients != 0 || stateOf(t, c, id.String()).State != held {
		t.Errorf("retry of all: %v", b)
	}
	got, err := c.OperateQueued(t.Context(), operate(release, id.String()))
	if err != nil || got.Recipients != 1 || stateOf(t, c, id.String()).State != pending {
		t.Errorf("release: %v %v", got, err)
	}
}

// Each operation says who did it, when and why.
func TestOperationsByID(t *testing.T) {
	w, c, ids := queued(t)
	id := ids["both"]
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		req  *pb.OperateQueuedRequest
		want pb.RecipientState
		kind pb.HistoryRecord_Kind
		text string
	}{
		{operate(hold, id, id), held, pb.HistoryRecord_KIND_HELD, ""},
		{operate(release, id), pending, pb.HistoryRecord_KIND_RELEASED, ""},
		{&pb.OperateQueuedRequest{
			Operation: &pb.QueueOperation{Kind: redirect, Address: "New@ONE.test", Reason: "ticket  4711"}, Ids: []string{id},
		}, pending, pb.HistoryRecord_KIND_REDIRECTED, "to New@ONE.test"},
		{operate(remove, id), gone, pb.HistoryRecord_KIND_DELETED, "can be undone until 2026-01-02T03:14:05Z"},
		{operate(undelete, id), pending, pb.HistoryRecord_KIND_UNDELETED, ""},
		{operate(bounce, id), pending, pb.HistoryRecord_KIND_RETURN_ORDERED, ""},
	} {
		dry := &pb.OperateQueuedRequest{Operation: step.req.Operation, Ids: step.req.Ids, DryRun: true}
		before := len(w.Proposed())
		if got, err := c.OperateQueued(t.Context(), dry); err != nil || got.Messages != 1 || got.Recipients != 2 || len(w.Proposed()) != before {
			t.Fatalf("dry run of %v: %v %v", step.req, got, err)
		}
		got, err := c.OperateQueued(t.Context(), step.req)
		if err != nil || got.Messages != 1 || got.Recipients != 2 || got.Waiting != 0 {
			t.Fatalf("%v: %v %v", step.req, got, err)
		}
		log, err := c.GetLog(t.Context(), &pb.GetLogRequest{Id: id})
		if err != nil {
			t.Fatal(err)
		}
		last := log.History[len(log.History)-1]
		if log.Message.State != step.want || last.Kind != step.kind || last.By != "local user "+me.Username ||
			last.Reason != "ticket 4711" || last.Text != step.text || !last.Time.AsTime().Equal(admintest.Now) || len(last.Recipients) != 2 {
			t.Errorf("%v: state %v, last row %v", step.req, log.Message.State, last)
		}
	}
	causes := stateOf(t, c, id).Recipients[0].Causes
	if want := "its return was ordered by local user " + me.Username + " at 2026-01-02T03:04:05Z (ticket 4711): no attempt is made"; !strings.HasPrefix(causes[0], want) {
		t.Errorf("causes %q, want %q", causes, want)
	}
}

func TestCausesOfWhatOperatorsDid(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	id := w.Accept(time.Hour, "s@x.test", "r@one.test")
	c := dial(t, w)
	if _, err := c.OperateQueued(t.Context(), operate(hold, id.String())); err != nil {
		t.Fatal(err)
	}
	causes := stateOf(t, c, id.String()).Recipients[0].Causes
	if len(causes) != 1 || !strings.HasPrefix(causes[0], "held by local user ") || !strings.Contains(causes[0], "at 2026-01-02T03:04:05Z (ticket 4711)") {
		t.Errorf("causes of a hold: %q", causes)
	}
	if _, err := c.OperateQueued(t.Context(), operate(release, id.String())); err != nil {
		t.Fatal(err)
	}
	w.Claim(1, id, "one")
	got, err := c.OperateQueued(t.Context(), operate(remove, id.String()))
	if err != nil || got.Recipients != 0 || got.Waiting != 1 {
		t.Fatalf("delete during an attempt: %v %v", got, err)
	}
	causes = stateOf(t, c, id.String()).Recipients[0].Causes
	if len(causes) != 2 || !strings.HasPrefix(causes[0], "attempt under way") || !strings.HasPrefix(causes[1], "delete ordered by local user ") {
		t.Errorf("causes of an order that waits: %q", causes)
	}
	w.Defer(1, id, "one", time.Hour)
	if m := stateOf(t, c, id.String()); m.State != gone {
		t.Errorf("after the attempt: %v", m)
	}
}

func TestOperationIsChecked(t *testing.T) {
	_, c, ids := queued(t)
	to := func(destination, address string) *pb.OperateQueuedRequest {
		return &pb.OperateQueuedRequest{
			Operation: &pb.QueueOperation{Kind: redirect, Destination: destination, Address: address}, Ids: []string{ids["old"]},
		}
	}
	tests := []struct {
		name string
		req  *pb.OperateQueuedRequest
		code codes.Code
		text string
	}{
		{"nothing named", operate(hold), codes.InvalidArgument, "0 ids"},
		{"too many", operate(hold, make([]string, 1001)...), codes.InvalidArgument, "1001 ids"},
		{"unknown id", operate(hold, ids["old"], "01ARZ3NDEKTSV4RRFFQ69G5FAV"), codes.NotFound, "01ARZ3NDEKTSV4RRFFQ69G5FAV"},
		{"no id", operate(hold, "x"), codes.InvalidArgument, "not a ULID"},
		{"delivered", operate(hold, ids["old"], ids["done"]), codes.FailedPrecondition, "done@two.test is delivered"},
		{"not held", operate(release, ids["old"]), codes.FailedPrecondition, "is pending"},
		{"not frozen", operate(thaw, ids["old"]), codes.FailedPrecondition, "is pending"},
		{"unknown operation", operate(99, ids["old"]), codes.InvalidArgument, "unknown"},
		{"long reason", &pb.OperateQueuedRequest{
			Operation: &pb.QueueOperation{Kind: hold, Reason: strings.Repeat("x", 501)}, Ids: []string{ids["old"]},
		}, codes.InvalidArgument, "501 bytes"},
		{"nowhere", to("", ""), codes.InvalidArgument, "one of the two"},
		{"two ways", to("one", "r@one.test"), codes.InvalidArgument, "one of the two"},
		{"unknown destination", to("nowhere", ""), codes.NotFound, `no destination "nowhere"`},
		{"domain elsewhere", to("", "r@elsewhere.test"), codes.FailedPrecondition, "holdfast domain set elsewhere.test"},
		{"no address", to("", "nonsense"), codes.InvalidArgument, "not an address"},
		{"control characters", to("", "a\r\nb@one.test"), codes.InvalidArgument, "not an address"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := c.OperateQueued(t.Context(), test.req)
			wantCode(t, err, test.code, test.text)
		})
	}
	if m := stateOf(t, c, ids["old"]); m.State != pending {
		t.Errorf("a refused operation changed %v", m)
	}
}

// A message with more recipients than one event may touch.
func TestOperationOnManyRecipients(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	var to []string
	for i := range 1100 {
		to = append(to, fmt.Sprintf("r%d@one.test", i))
	}
	id := w.Accept(time.Hour, "s@x.test", to...).String()
	c := dial(t, w)
	got, err := c.OperateQueued(t.Context(), operate(hold, id))
	if err != nil || got.Recipients != 1100 {
		t.Fatalf("hold: %v %v", got, err)
	}
	if b := runBulk(t, c, release, nil, true); b.Recipients != 1100 || b.Messages != 1 {
		t.Errorf("release: %v", b)
	}
}

func runBulk(t *testing.T, c client, kind pb.Operation_Kind, filter *pb.MessageFilter, all bool) *pb.Bulk {
	t.Helper()
	started, err := c.StartBulk(t.Context(), &pb.StartBulkRequest{
		Operation: &pb.QueueOperation{Kind: kind, Reason: "ticket 4711"}, Filter: filter, All: all,
	})
	if err != nil {
		t.Fatal(err)
	}
	return endOfBulk(t, c, started)
}

func endOfBulk(t *testing.T, c client, started *pb.StartBulkResponse) *pb.Bulk {
	t.Helper()
	stream, err := c.WatchBulk(t.Context(), &pb.WatchBulkRequest{BulkId: started.BulkId, Index: started.Index})
	if err != nil {
		t.Fatal(err)
	}
	var last *pb.Bulk
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return last
		}
		if err != nil {
			t.Fatal(err)
		}
		last = r.Bulk
	}
}

func preview(t *testing.T, c client, req *pb.PreviewBulkRequest) (*pb.PreviewBulkResponse, error) {
	t.Helper()
	stream, err := c.PreviewBulk(t.Context(), req)
	if err != nil {
		return nil, err
	}
	for {
		r, err := stream.Recv()
		if err != nil || r.Finished {
			return r, err
		}
	}
}

// A bulk operation hits what its preview counted: matching recipients alone.
func TestBulk(t *testing.T) {
	_, c, ids := queued(t)
	for _, test := range []struct {
		name                 string
		kind                 pb.Operation_Kind
		filter               *pb.MessageFilter
		messages, recipients uint64
	}{
		{"retry of a domain", retry, &pb.MessageFilter{Domain: "ONE.test"}, 3, 3},
		{"retry of all", retry, nil, 3, 4},
		{"nothing matches", hold, &pb.MessageFilter{From: "nobody@x.test"}, 0, 0},
		{"hold by destination", hold, &pb.MessageFilter{Destination: "two"}, 1, 1},
		{"hold by sender", hold, &pb.MessageFilter{From: "<>"}, 1, 1},
		{"release", release, nil, 2, 2},
		{"delete by age", remove, &pb.MessageFilter{Until: timestampAt(90 * time.Minute)}, 2, 3},
		{"undelete by recipient", undelete, &pb.MessageFilter{To: "*@two.test"}, 1, 1},
		{"undelete", undelete, nil, 2, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			op := &pb.QueueOperation{Kind: test.kind}
			meant, err := preview(t, c, &pb.PreviewBulkRequest{Operation: op, Filter: test.filter})
			if err != nil || meant.Messages != test.messages || meant.Recipients != test.recipients || len(meant.Sample) != int(test.messages) {
				t.Errorf("preview %v, %v", meant, err)
			}
			b := runBulk(t, c, test.kind, test.filter, test.filter == nil)
			if b.Messages != test.messages || b.Recipients != test.recipients || b.Refused != 0 || b.Reason != "ticket 4711" || b.FinishedAt == nil {
				t.Errorf("bulk %v", b)
			}
		})
	}
	if m := stateOf(t, c, ids["both"]); m.State != pending {
		t.Errorf("in the end: %v", m)
	}
}

// What another operator holds while somebody looks at a preview isn't released by the
// answer, nor what comes meanwhile returned by it.
func TestBulkHitsWhatWasShown(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	shown := w.Accept(time.Hour, "a@x.test", "r@one.test").String()
	held, found := holding(t, c, shown), &pb.MessageFilter{Domain: "one.test"}
	op := &pb.QueueOperation{Kind: release}
	meant, err := preview(t, c, &pb.PreviewBulkRequest{Operation: op, Filter: found})
	if err != nil || meant.Messages != 1 || meant.Index < held {
		t.Fatalf("%v, %v, held at %d", meant, err, held)
	}
	late := w.Accept(time.Minute, "b@x.test", "r@one.test").String()
	holding(t, c, late)
	started, err := c.StartBulk(t.Context(), &pb.StartBulkRequest{Operation: op, Filter: found, Index: meant.Index})
	if err != nil {
		t.Fatal(err)
	}
	if b := endOfBulk(t, c, started); b.Messages != 1 || b.Recipients != 1 || b.Refused != 0 || b.Index != meant.Index {
		t.Errorf("%v", b)
	}
	if m := stateOf(t, c, shown); m.State != pending {
		t.Errorf("what was shown: %v", m)
	}
	if m := stateOf(t, c, late); m.State != pb.RecipientState_RECIPIENT_STATE_HELD {
		t.Errorf("what was held after: %v", m)
	}
	// One who has seen nothing means what there is; an index to come is no better.
	for _, index := range []uint64{0, started.Index + 1_000_000} {
		holding(t, c, shown)
		started, err := c.StartBulk(t.Context(), &pb.StartBulkRequest{Operation: op, Filter: found, Index: index})
		if err != nil {
			t.Fatal(err)
		}
		if b := endOfBulk(t, c, started); b.Messages == 0 || b.Index != started.Index {
			t.Errorf("index %d: %v", index, b)
		}
		if m := stateOf(t, c, shown); m.State != pending {
			t.Errorf("index %d: %v", index, m)
		}
	}
}

// holding holds a message and returns the index of that.
func holding(t *testing.T, c client, id string) (index uint64) {
	t.Helper()
	if _, err := c.OperateQueued(t.Context(), operate(hold, id)); err != nil {
		t.Fatal(err)
	}
	m, err := c.GetLog(t.Context(), &pb.GetLogRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	return m.History[len(m.History)-1].Index
}

func TestBulkIsChecked(t *testing.T) {
	_, c, _ := queued(t)
	op := &pb.QueueOperation{Kind: retry}
	for text, req := range map[string]*pb.StartBulkRequest{
		"no filter":                   {Operation: op},
		"contradict":                  {Operation: op, All: true, Filter: &pb.MessageFilter{Domain: "one.test"}},
		"that are pending, not for":   {Operation: op, Filter: &pb.MessageFilter{States: []pb.RecipientState{delivered}}},
		"operation 0":                 {All: true},
		"frozen, not for deleted one": {Operation: &pb.QueueOperation{Kind: remove}, Filter: &pb.MessageFilter{States: []pb.RecipientState{gone}}},
	} {
		_, err := c.StartBulk(t.Context(), req)
		wantCode(t, err, codes.InvalidArgument, text)
	}
	stream, err := c.WatchBulk(t.Context(), &pb.WatchBulkRequest{BulkId: "01ARZ3NDEKTSV4RRFFQ69G5FAV"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantCode(t, err, codes.NotFound, "no bulk operation")
}

func TestHistoryInPages(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	id := w.Accept(time.Hour, "s@x.test", "r@one.test").String()
	c := dial(t, w)
	for range 5 {
		for _, kind := range []pb.Operation_Kind{hold, release} {
			if _, err := c.OperateQueued(t.Context(), operate(kind, id)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var rows []*pb.HistoryEntry
	for token := ""; ; {
		page, err := c.GetLog(t.Context(), &pb.GetLogRequest{Id: id, PageSize: 3, PageToken: token})
		if err != nil || len(page.History) > 3 {
			t.Fatal(page, err)
		}
		rows = append(rows, page.History...)
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	if len(rows) != 11 || rows[0].Kind != pb.HistoryRecord_KIND_ACCEPTED || rows[10].Kind != pb.HistoryRecord_KIND_RELEASED {
		t.Errorf("history %v", rows)
	}
	_, err := c.GetLog(t.Context(), &pb.GetLogRequest{Id: id, PageToken: "x"})
	wantCode(t, err, codes.InvalidArgument, "page_token")
}
