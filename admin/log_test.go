package admin_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/admintest"
)

// A history longer than a page comes whole and in order, each row once.
func TestGetLogInPages(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	id := w.Accept(time.Hour, "s@x.test", "r@one.test")
	const attempts = 30
	for n := range uint64(attempts) {
		w.Claim(n+1, id, "one")
		w.Defer(n+1, id, "one", time.Minute)
	}
	c := dial(t, w)
	for _, size := range []uint32{1, 7, 31, 100} {
		var rows []*pb.HistoryEntry
		for token := ""; ; {
			r, err := c.GetLog(t.Context(), &pb.GetLogRequest{Id: id.String(), PageSize: size, PageToken: token})
			if err != nil || len(r.History) > int(size) || r.Message.GetId() != id.String() {
				t.Fatalf("page of %d: %d rows of %s, %v", size, len(r.GetHistory()), r.GetMessage().GetId(), err)
			}
			rows = append(rows, r.History...)
			if token = r.NextPageToken; token == "" {
				break
			}
		}
		if len(rows) != attempts+1 || rows[0].Kind != pb.HistoryRecord_KIND_ACCEPTED {
			t.Fatalf("pages of %d: %d rows, the first %v", size, len(rows), rows[0])
		}
		for i, row := range rows[1:] {
			if row.Kind != pb.HistoryRecord_KIND_ATTEMPT_FAILED || row.Index <= rows[i].Index {
				t.Errorf("pages of %d: row %d is %v at index %d after %d", size, i+1, row.Kind, row.Index, rows[i].Index)
			}
		}
	}
	other := w.Accept(time.Hour, "s@x.test", "r@one.test")
	first, err := c.GetLog(t.Context(), &pb.GetLogRequest{Id: id.String(), PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.GetLog(t.Context(), &pb.GetLogRequest{Id: other.String(), PageToken: first.NextPageToken})
	wantCode(t, err, codes.InvalidArgument, "another request")
	_, err = c.GetLog(t.Context(), &pb.GetLogRequest{Id: id.String(), PageSize: 1001})
	wantCode(t, err, codes.InvalidArgument, fmt.Sprint(1000))
}

// What the past refuses, and that pages of it stay at their index while the log goes on.
func TestQueueAt(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	var ids []string
	for n := range 5 {
		id := w.Accept(time.Duration(10-n)*time.Minute, "s@x.test", "r@one.test")
		ids = append(ids, id.String())
	}
	c := dial(t, w)
	now, err := c.ListQueue(t.Context(), &pb.ListQueueRequest{})
	if err != nil {
		t.Fatal(err)
	}
	w.BringDown("one")
	for n, m := range now.Messages {
		w.Deliver(uint64(n+1), mustID(t, m.Id), "one")
	}
	var got []*pb.Message
	for token := ""; ; {
		r, err := c.ListQueue(t.Context(), &pb.ListQueueRequest{At: &pb.PastPoint{Index: now.Index, Time: timestamppb.New(admintest.Now)}, PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Messages...)
		w.Accept(0, "s@x.test", "later@one.test")
		if token = r.NextPageToken; token == "" {
			break
		}
	}
	if len(got) != len(ids) {
		t.Fatalf("%d messages, want %d", len(got), len(ids))
	}
	for i, m := range got {
		if !proto.Equal(m, now.Messages[i]) {
			t.Errorf("then %v, now %v", now.Messages[i], m)
		}
	}
	counted, err := c.CountQueue(t.Context(), &pb.CountQueueRequest{At: &pb.PastPoint{Index: now.Index}})
	if err != nil || counted.Rows[0].Count.Pending != 5 {
		t.Errorf("count %v, %v", counted, err)
	}
	for _, bad := range []struct {
		at   *pb.PastPoint
		code codes.Code
		text string
	}{
		{&pb.PastPoint{}, codes.InvalidArgument, "needs an index or a time"},
		{&pb.PastPoint{Index: 1 << 40}, codes.OutOfRange, "still to come"},
		{&pb.PastPoint{Time: timestamppb.New(admintest.Now.Add(time.Hour))}, codes.InvalidArgument, "still to come"},
		{&pb.PastPoint{Time: timestamppb.New(admintest.Now.Add(-1000 * time.Hour))}, codes.OutOfRange, "nothing is kept of that time: the past begins at 2"},
	} {
		_, err := c.ListQueue(t.Context(), &pb.ListQueueRequest{At: bad.at})
		wantCode(t, err, bad.code, bad.text)
	}
	_, err = c.SearchLog(t.Context(), &pb.SearchLogRequest{Reply: "450"})
	wantCode(t, err, codes.InvalidArgument, "since when")
}

func mustID(t *testing.T, s string) relay.MessageID {
	t.Helper()
	id, err := relay.ParseMessageID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A tail shows what a filter means, and what comes while it is open.
func TestTailLog(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	one := w.Accept(time.Hour, "s@x.test", "r@one.test")
	w.Claim(1, one, "one")
	w.Deliver(1, one, "one")
	c := dial(t, w)
	stream, err := c.TailLog(t.Context(), &pb.TailLogRequest{Index: 1, Filter: &pb.MessageFilter{Domain: "one.test"}})
	if err != nil {
		t.Fatal(err)
	}
	var rows []*pb.TailedRow
	receive := func(want int) {
		t.Helper()
		for len(rows) < want {
			r, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, r.Rows...)
		}
	}
	receive(2)
	w.Accept(0, "s@x.test", "r@two.test")
	two := w.Accept(0, "", "live@one.test")
	receive(3)
	if rows[0].MessageId != one.String() || rows[1].Entry.Kind != pb.HistoryRecord_KIND_DELIVERED ||
		rows[2].MessageId != two.String() || rows[2].Entry.Recipients[0] != "live@one.test" {
		t.Errorf("rows %v", rows)
	}
	delivered, err := c.TailLog(t.Context(), &pb.TailLogRequest{Index: 1, Filter: &pb.MessageFilter{
		States: []pb.RecipientState{pb.RecipientState_RECIPIENT_STATE_DELIVERED},
	}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := delivered.Recv()
	if err != nil || len(r.Rows) != 1 || r.Rows[0].Entry.Kind != pb.HistoryRecord_KIND_DELIVERED || r.NextIndex <= r.Rows[0].Entry.Index {
		t.Errorf("delivered: %v, %v", r, err)
	}
}
