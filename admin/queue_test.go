package admin_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

const (
	pending   = pb.RecipientState_RECIPIENT_STATE_PENDING
	delivered = pb.RecipientState_RECIPIENT_STATE_DELIVERED
)

func view(t *testing.T, w *admintest.World) *fsm.View {
	t.Helper()
	v, err := w.State.View()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// queued fills a queue: two at one.test, one at both, one delivered at two.test.
func queued(t *testing.T) (*admintest.World, client, map[string]string) {
	w := admintest.Start(t)
	w.Configure()
	ids := map[string]string{
		"old":  w.Accept(48*time.Hour, "alice@x.test", "r@one.test").String(),
		"both": w.Accept(2*time.Hour, "bob@y.test", "r@one.test", "r@two.test").String(),
		"null": w.Accept(time.Hour, "", "q@one.test").String(),
	}
	done := w.Accept(3*time.Hour, "alice@x.test", "done@two.test")
	w.Claim(9, done, "two")
	w.Deliver(9, done, "two")
	ids["done"] = done.String()
	return w, dial(t, w), ids
}

func TestQueueAndLogByFilter(t *testing.T) {
	_, c, ids := queued(t)
	tests := []struct {
		name       string
		filter     *pb.MessageFilter
		queue, log []string
	}{
		{"all", nil, []string{"old", "both", "null"}, []string{"null", "both", "done", "old"}},
		{"domain", &pb.MessageFilter{Domain: "TWO.test"}, []string{"both"}, []string{"both", "done"}},
		{"destination", &pb.MessageFilter{Destination: "two"}, []string{"both"}, []string{"both", "done"}},
		{"sender", &pb.MessageFilter{From: "alice@X.test"}, []string{"old"}, []string{"done", "old"}},
		{"sender's domain", &pb.MessageFilter{From: "*@y.test"}, []string{"both"}, []string{"both"}},
		{"null sender", &pb.MessageFilter{From: "<>"}, []string{"null"}, []string{"null"}},
		{"recipient", &pb.MessageFilter{To: "r@one.test"}, []string{"old", "both"}, []string{"both", "old"}},
		{"state", &pb.MessageFilter{States: []pb.RecipientState{pending}}, []string{"old", "both", "null"}, []string{"null", "both", "old"}},
		{"since", &pb.MessageFilter{Since: timestampAt(2 * time.Hour)}, []string{"both", "null"}, []string{"null", "both"}},
		{"until", &pb.MessageFilter{Until: timestampAt(2 * time.Hour)}, []string{"old"}, []string{"done", "old"}},
		{"nothing", &pb.MessageFilter{To: "nobody@one.test"}, nil, nil},
	}
	name := func(messages []*pb.Message) []string {
		var names []string
		for _, m := range messages {
			for name, id := range ids {
				if id == m.Id {
					names = append(names, name)
				}
			}
		}
		return names
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			queue, err := c.ListQueue(t.Context(), &pb.ListQueueRequest{Filter: test.filter})
			if err != nil {
				t.Fatal(err)
			}
			if got := name(queue.Messages); !slices.Equal(got, test.queue) {
				t.Errorf("queue %v, want %v", got, test.queue)
			}
			log, err := c.SearchLog(t.Context(), &pb.SearchLogRequest{Filter: test.filter})
			if err != nil {
				t.Fatal(err)
			}
			if got := name(log.Messages); !slices.Equal(got, test.log) {
				t.Errorf("log %v, want %v", got, test.log)
			}
		})
	}
	ended := &pb.MessageFilter{States: []pb.RecipientState{delivered}}
	_, err := c.ListQueue(t.Context(), &pb.ListQueueRequest{Filter: ended})
	wantCode(t, err, codes.InvalidArgument, "`holdfast log search --state delivered` has them")
	_, err = c.CountQueue(t.Context(), &pb.CountQueueRequest{Filter: ended})
	wantCode(t, err, codes.InvalidArgument, "`holdfast log search --state delivered` has them")
	if log, err := c.SearchLog(t.Context(), &pb.SearchLogRequest{Filter: ended}); err != nil || !slices.Equal(name(log.Messages), []string{"done"}) {
		t.Errorf("%v, %v", log, err)
	}
}

func TestFilterIsChecked(t *testing.T) {
	_, c, _ := queued(t)
	for text, filter := range map[string]*pb.MessageFilter{
		"from \"nonsense\"": {From: "nonsense"},
		"to \"<>\"":         {To: "<>"},
		"state 99":          {States: []pb.RecipientState{99}},
		"later than since":  {Since: timestampAt(time.Hour), Until: timestampAt(2 * time.Hour)},
	} {
		_, err := c.SearchLog(t.Context(), &pb.SearchLogRequest{Filter: filter})
		wantCode(t, err, codes.InvalidArgument, text)
	}
}

func TestQueuePages(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	const n = 45
	want := map[string]bool{}
	for i := range n {
		want[w.Accept(time.Duration(i)*time.Minute, "s@x.test", fmt.Sprintf("r%d@one.test", i)).String()] = true
	}
	c := dial(t, w)
	for _, size := range []uint32{1, 7, 16, 20, n, 100} {
		got := map[string]bool{}
		for token := ""; ; {
			page, err := c.ListQueue(t.Context(), &pb.ListQueueRequest{PageSize: size, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Messages) > int(size) {
				t.Fatalf("page of %d has %d", size, len(page.Messages))
			}
			for _, m := range page.Messages {
				if got[m.Id] || !want[m.Id] {
					t.Fatalf("page size %d: %s comes twice, or from nowhere", size, m.Id)
				}
				got[m.Id] = true
			}
			if token = page.NextPageToken; token == "" {
				break
			}
		}
		if len(got) != n {
			t.Errorf("page size %d: %d of %d messages", size, len(got), n)
		}
	}
}

// A page is cut before gRPC clients refuse its size.
func TestLargePageEndsEarly(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	const messages, recipients = 40, 20
	for i := range messages {
		var to []string
		for r := range recipients {
			to = append(to, fmt.Sprintf("%s%d@one.test", strings.Repeat("x", 2000), r))
		}
		w.Accept(time.Duration(i)*time.Minute, "s@x.test", to...)
	}
	c := dial(t, w)
	seen, pages := 0, 0
	for token := ""; ; {
		page, err := c.ListQueue(t.Context(), &pb.ListQueueRequest{PageSize: 1000, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		seen += len(page.Messages)
		pages++
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	if seen != messages || pages < 2 {
		t.Errorf("%d messages on %d pages", seen, pages)
	}
}

func TestCount(t *testing.T) {
	_, c, _ := queued(t)
	tests := []struct {
		name   string
		filter *pb.MessageFilter
		want   uint64
	}{
		{"all", nil, 4},
		{"domain", &pb.MessageFilter{Domain: "one.test"}, 3},
		{"destination", &pb.MessageFilter{Destination: "two"}, 1},
		{"domain and destination", &pb.MessageFilter{Domain: "one.test", Destination: "two"}, 0},
		{"read through", &pb.MessageFilter{To: "*@one.test", Until: timestampAt(90 * time.Minute)}, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := c.CountQueue(t.Context(), &pb.CountQueueRequest{Filter: test.filter})
			if err != nil || len(got.Rows) != 1 || got.Rows[0].Count.Pending != test.want {
				t.Errorf("count %v, %v, want %d pending", got, err, test.want)
			}
		})
	}
	by, err := c.CountQueue(t.Context(), &pb.CountQueueRequest{By: pb.CountQueueRequest_BY_DOMAIN})
	if err != nil || len(by.Rows) != 2 || by.Rows[1].Name != "two.test" || by.Rows[1].Count.Delivered != 1 || by.Rows[1].Count.Pending != 1 {
		t.Errorf("by domain %v, %v", by, err)
	}
	_, err = c.CountQueue(t.Context(), &pb.CountQueueRequest{By: pb.CountQueueRequest_BY_DOMAIN, Filter: &pb.MessageFilter{Domain: "one.test"}})
	wantCode(t, err, codes.InvalidArgument, "without a filter")
}

// A report to a domain that isn't configured is frozen, and counted together with those
// to all such domains: the count of its domain has it all the same, as the list has.
func TestCountOfFrozenReports(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	w.Bounce(1, w.Accept(time.Hour, "s@x.test", "r@one.test"), "one")
	c := dial(t, w)
	for domain, want := range map[string]*pb.QueueCount{
		"x.test": {Frozen: 1, Failed: 1}, "X.test": {Frozen: 1, Failed: 1}, "y.test": {}, "one.test": {Failed: 1},
	} {
		got, err := c.CountQueue(t.Context(), &pb.CountQueueRequest{Filter: &pb.MessageFilter{Domain: domain}})
		if err != nil || !proto.Equal(got.Rows[0].Count, want) {
			t.Errorf("%s: %v, %v, want %v", domain, got, err, want)
		}
	}
}

func TestEndedMessageIsNotInQueue(t *testing.T) {
	_, c, ids := queued(t)
	_, err := c.GetQueued(t.Context(), &pb.GetQueuedRequest{Id: ids["done"]})
	wantCode(t, err, codes.NotFound, "holdfast log show")
	log, err := c.GetLog(t.Context(), &pb.GetLogRequest{Id: ids["done"]})
	if err != nil {
		t.Fatal(err)
	}
	last := log.History[len(log.History)-1]
	if log.Message.State != delivered || last.Kind != pb.HistoryRecord_KIND_DELIVERED || last.Host != "mail.two.test:25" ||
		last.Tls != "TLS1.3" || last.Duration.AsDuration() != 120*time.Millisecond || !slices.Equal(last.Recipients, []string{"done@two.test"}) {
		t.Errorf("log %v", log)
	}
}
