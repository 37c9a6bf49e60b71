package admin_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// An operation under way is stopped where it stands, by whom and why is kept, and a
// second call changes nothing of that.
func TestStopBulk(t *testing.T) {
	w, c, ids := queued(t)
	ended := runBulk(t, c, hold, &pb.MessageFilter{Domain: "two.test"}, false)
	w.RestUpkeep()
	started, err := c.StartBulk(t.Context(), &pb.StartBulkRequest{Operation: &pb.QueueOperation{Kind: remove}, All: true})
	if err != nil {
		t.Fatal(err)
	}
	stop := func(id, reason string) (*pb.Bulk, error) {
		r, err := c.StopBulk(t.Context(), &pb.StopBulkRequest{BulkId: id, Reason: reason})
		return r.GetBulk(), err
	}
	_, err = stop(started.BulkId, strings.Repeat("x", 501))
	wantCode(t, err, codes.InvalidArgument, "501 bytes: 500 at most")
	_, err = stop("01ARZ3NDEKTSV4RRFFQ69G5FAV", "")
	wantCode(t, err, codes.NotFound, "no bulk operation")
	_, err = stop("xyz", "")
	wantCode(t, err, codes.InvalidArgument, `"xyz" is no operation's id`)
	_, err = stop(ended.Id, "")
	wantCode(t, err, codes.FailedPrecondition, "has ended already")
	if b, err := stop(started.BulkId, "the\nwrong  one"); err != nil || !b.Stopped || b.FinishedAt == nil ||
		b.StopReason != "the wrong one" || !strings.HasPrefix(b.StoppedBy, "local user ") || b.Recipients != 0 {
		t.Errorf("stopped: %v, %v", b, err)
	}
	if b, err := stop(started.BulkId, "another reason"); err != nil || b.StopReason != "the wrong one" {
		t.Errorf("stopped again: %v, %v", b, err)
	}
	if m := stateOf(t, c, ids["old"]); m.State != pending {
		t.Errorf("a message is %v", m)
	}
	w.LoseQuorum(admintest.ErrNoQuorum)
	if b, err := stop(started.BulkId, ""); err != nil || !b.Stopped {
		t.Errorf("stopped, and without a quorum: %v, %v", b, err)
	}
}

// Without a quorum nothing is stopped, and the answer says so.
func TestStopBulkNeedsAQuorum(t *testing.T) {
	w, c, _ := queued(t)
	w.RestUpkeep()
	started, err := c.StartBulk(t.Context(), &pb.StartBulkRequest{Operation: &pb.QueueOperation{Kind: hold}, All: true})
	if err != nil {
		t.Fatal(err)
	}
	w.LoseQuorum(admintest.ErrNoQuorum)
	_, err = c.StopBulk(t.Context(), &pb.StopBulkRequest{BulkId: started.BulkId})
	wantCode(t, err, codes.Unavailable, "no quorum: nothing was changed")
}
