package admin_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"holdfast/admin"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

func statusOf(t *testing.T, c client) *pb.GetStatusResponse {
	t.Helper()
	s, err := c.GetStatus(t.Context(), &pb.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Each trouble has its warning, and none is there without its trouble.
func TestWarnings(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	w.SetHealth(admin.Health{DiskFree: 10 << 30, DiskReserve: 1 << 30})
	c := dial(t, w)
	want := func(codes ...string) {
		t.Helper()
		// c never answers in this world.
		if got := warningCodes(statusOf(t, c)); !slices.Equal(got, append([]string{"node-down"}, codes...)) {
			t.Errorf("warnings %v, want node-down and %v", got, codes)
		}
	}
	want()
	w.SetHealth(admin.Health{DiskFree: 3 << 29, DiskReserve: 1 << 30, ClockOffset: -1500 * time.Millisecond})
	want("disk-low", "clock-apart")
	w.SetHealth(admin.Health{DiskFree: 1 << 29, DiskReserve: 1 << 30})
	want("disk-reserve")
	w.SetHealth(admin.Health{DiskFree: 10 << 30, DiskReserve: 1 << 30, DisksLow: true})
	want("disk-reserve")
	w.SetHealth(admin.Health{})
	w.SetStuck("", "an-id")
	want("bulk-stuck", "bulk-stuck")
	for i, subject := range []string{"a", "an-id"} {
		if got := statusOf(t, c).Warnings[i+1]; got.Subject != subject || !strings.Contains(got.Text, "node a leads and can't carry") {
			t.Errorf("warning %v, want one of %s", got, subject)
		}
	}
	w.SetStuck()

	w.Accept(3*time.Hour, "a@x.test", "r@one.test", "s@one.test")
	want()
	w.Fold(&pb.Event{Kind: &pb.Event_SettingsChanged{SettingsChanged: &pb.SettingsChanged{Settings: &pb.Settings{
		WarnOldest: proto.Int64(int64(2 * time.Hour)), WarnPending: proto.Uint64(2),
	}}}}, nil)
	want("pending", "old-mail")
	for _, warning := range statusOf(t, c).Warnings {
		if warning.Code == "old-mail" && !strings.Contains(warning.Text, "--older 2h`") {
			t.Errorf("text %q", warning.Text)
		}
		if warning.Code == "pending" && (warning.Subject != "one" || !strings.HasPrefix(warning.Text, "2 recipients wait for destination one")) {
			t.Errorf("warning %v", warning)
		}
	}
	w.Fold(&pb.Event{Kind: &pb.Event_SettingsChanged{SettingsChanged: &pb.SettingsChanged{Settings: &pb.Settings{
		WarnOldest: proto.Int64(0), WarnPending: proto.Uint64(0),
	}}}}, nil)
	want()
	id := w.Accept(time.Minute, "a@x.test", "held@two.test")
	w.Hold(id, "two")
	want("held", "in-doubt")
}

// Counts apart add up to the count of all, whatever domains reports went to.
func TestCountsAddUp(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	w.Accept(time.Minute, "a@x.test", "r@one.test", "s@two.test")
	refused := w.Accept(time.Minute, "sender@nowhere.test", "gone@one.test")
	w.Bounce(1, refused, "one")
	all := countOf(t, c, pb.CountQueueRequest_BY_UNSPECIFIED)
	if all.Frozen != 1 || all.Pending != 2 || all.Failed != 2 {
		t.Errorf("counts of all: %v", all)
	}
	for _, by := range []pb.CountQueueRequest_By{pb.CountQueueRequest_BY_DOMAIN, pb.CountQueueRequest_BY_DESTINATION} {
		if sum := countOf(t, c, by); !proto.Equal(sum, all) {
			t.Errorf("%v adds up to %v, all are %v", by, sum, all)
		}
	}
}

// countOf sums up the rows.
func countOf(t *testing.T, c client, by pb.CountQueueRequest_By) *pb.QueueCount {
	t.Helper()
	r, err := c.CountQueue(t.Context(), &pb.CountQueueRequest{By: by})
	if err != nil {
		t.Fatal(err)
	}
	sum := &pb.QueueCount{}
	for _, row := range r.Rows {
		sum.Pending += row.Count.Pending
		sum.Held += row.Count.Held
		sum.Frozen += row.Count.Frozen
		sum.InDoubt += row.Count.InDoubt
		sum.Delivered += row.Count.Delivered
		sum.Failed += row.Count.Failed
	}
	return sum
}
