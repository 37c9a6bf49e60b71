package admin_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	pb "holdfast/proto/holdfast/v1"
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
