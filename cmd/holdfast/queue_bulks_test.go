package main

import (
	"encoding/json"
	"os/user"
	"slices"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/admintest"
)

// What was done to many messages can be looked up: what it was, on what, by whom
// and how it ended; a customer sees only operations on their own domains.
func TestQueueOperations(t *testing.T) {
	w, _ := scene(t)
	root := shellFor(w)
	if r := root.run(t, "queue", "operations", "--json"); r.status != exitDone || r.out != "" {
		t.Errorf("none: %+v", r)
	}
	for _, line := range []string{"queue hold --domain two.test --yes", "queue release --all --yes"} {
		if r := root.run(t, strings.Fields(line)...); r.status != exitDone {
			t.Fatalf("%s: %+v", line, r)
		}
	}
	id := make([]byte, 16)
	id[0] = 255
	w.Fold(&pb.Event{Kind: &pb.Event_BulkStarted{BulkStarted: &pb.BulkStarted{
		BulkId: id, Filter: &pb.BulkFilter{Destination: "none"}, Operation: &pb.Operation{Kind: pb.Operation_KIND_DELETE, By: "root", Reason: "spam"},
	}}}, nil)
	id[0] = 254
	w.Fold(&pb.Event{Kind: &pb.Event_BulkStarted{BulkStarted: &pb.BulkStarted{
		BulkId: id, Filter: &pb.BulkFilter{From: "<>"}, Limit: 10,
		Operation: &pb.Operation{Kind: pb.Operation_KIND_REDIRECT, By: "clerk", Address: "box@two.test", Domains: []string{"two.test"}},
	}}}, nil)
	r := root.run(t, "queue", "operations")
	for _, want := range []string{
		"hold       --domain two.test --state pending", "release    --state held", "delete     --destination none", "reason: spam", "OPERATION",
		"redirect   --from <> --limit 10, only of two.test", "to box@two.test",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	r = root.run(t, "queue", "operations", "--json")
	wantJSONLines(t, r.out)
	all := map[string]bulkJSON{}
	for line := range strings.Lines(r.out) {
		var b bulkJSON
		if err := json.Unmarshal([]byte(line), &b); err != nil {
			t.Fatal(err)
		}
		all[b.Operation] = b
	}
	if b := all["hold"]; b.State != "finished" || b.Recipients != 1 || *b.Filter.Domain != "two.test" ||
		b.Failure != nil || b.FinishedAt == nil || !strings.HasPrefix(b.By, "local user ") {
		t.Errorf("%+v", b)
	}
	if b := all["redirect"]; *b.Limit != 10 || *b.RcptNew != "box@two.test" || b.DestinationNew != nil || !slices.Equal(b.Domains, []string{"two.test"}) {
		t.Errorf("%+v", b)
	}
	created := root.run(t, "token", "create", "--name", "customer", "--role", "viewer", "--domain", "one.test")
	customer := shell{env: map[string]string{"HOLDFAST_ADDR": w.Socket, "HOLDFAST_TOKEN": strings.TrimSpace(created.out)}}
	if r := customer.run(t, "queue", "operations", "--json"); r.status != exitDone || r.out != "" {
		t.Errorf("of others: %+v", r)
	}
}

// Whoever waits for an operation that fails hears of it, with how far it came.
func TestFailedOperation(t *testing.T) {
	b := &pb.Bulk{Kind: pb.Operation_KIND_HOLD, Failure: "bulk: CODE_INVALID: no such piece", Messages: 2, Recipients: 3}
	if c := bulkState(b); c.text != "failed" || c.look != red {
		t.Errorf("%v", c)
	}
	if got := bulkDetail(b); got != b.Failure {
		t.Errorf("%q", got)
	}
	if err := failed(b, queueHold); err == nil || !strings.Contains(err.Error(), "no such piece") ||
		!strings.Contains(err.Error(), "before that, 2 messages with 3 recipients held") {
		t.Errorf("%v", err)
	}
}

// An operation under way is stopped by its id: what it has done is said, and the
// list shows who stopped it and why.
func TestStopOperation(t *testing.T) {
	w, ids := scene(t)
	root := shellFor(w)
	w.RestUpkeep()
	id, op := relay.MessageID{200}, &pb.Operation{Kind: pb.Operation_KIND_HOLD, By: "root", Reason: "ticket 4711"}
	w.Fold(&pb.Event{Kind: &pb.Event_BulkStarted{BulkStarted: &pb.BulkStarted{BulkId: id[:], Operation: op, Expected: 3}}}, nil)
	first, err := relay.ParseMessageID(ids["DEFERRED"])
	if err != nil {
		t.Fatal(err)
	}
	w.Fold(&pb.Event{Kind: &pb.Event_BulkProgressed{BulkProgressed: &pb.BulkProgressed{
		BulkId: id[:], Targets: []*pb.Target{{MessageId: first[:], Recipients: []uint32{0}}}, Cursor: []byte("further on"),
	}}}, nil)
	if offered, _ := root.offered(t, "queue operations stop "); !slices.Equal(offered, []string{id.String()}) {
		t.Errorf("completion offers %q", offered)
	}
	r := root.run(t, "queue", "operations", "stop", id.String(), "--reason", "the wrong domain")
	want := "operation " + id.String() + " stopped by " + localUser(t) + " (the wrong domain): " +
		"1 message with 1 recipient of 3 held before that; the rest isn't touched\n"
	if r.status != exitDone || r.out != want {
		t.Errorf("%+v, want %q", r, want)
	}
	if again := root.run(t, "queue", "operations", "stop", id.String()); again != r {
		t.Errorf("again: %+v", again)
	}
	if r := root.run(t, "queue", "operations"); !strings.Contains(r.out, id.String()) || !strings.Contains(r.out, "stopped") ||
		!strings.Contains(r.out, "(the wrong domain); reason: ticket 4711") {
		t.Errorf("listed as %s", r.out)
	}
	var b bulkJSON
	if err := json.Unmarshal([]byte(root.run(t, "queue", "operations", "--json").out), &b); err != nil || b.State != "stopped" ||
		*b.StoppedBy != localUser(t) || *b.StopReason != "the wrong domain" || b.Failure != nil || b.FinishedAt == nil {
		t.Errorf("%+v, %v", b, err)
	}
	if offered, _ := root.offered(t, "queue operations stop "); len(offered) > 0 {
		t.Errorf("completion offers %q, which has ended", offered)
	}
	if r := root.run(t, "queue", "operations", "stop", ids["DONE"]); r.status != exitNotFound {
		t.Errorf("no such operation: %+v", r)
	}
}

// localUser is who the tests are to a node.
func localUser(t *testing.T) string {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return "local user " + me.Username
}

// Whoever waits for an operation that another stops hears of it.
func TestStoppedWhileFollowed(t *testing.T) {
	b := &pb.Bulk{Stopped: true, StoppedBy: "token ann", StopReason: "no", Messages: 2, Recipients: 3}
	if err := failed(b, queueHold); err == nil || err.Error() !=
		"the operation was stopped by token ann (no) (before that, 2 messages with 3 recipients held)" {
		t.Errorf("%v", err)
	}
}

// What an operation by filter leaves out isn't said to be done, nor that it would be.
func TestOperationByFilterThatFitsNothing(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	sh := shellFor(w)
	refused := w.Accept(time.Minute, "sender@one.test", "gone@two.test")
	w.Bounce(1, refused, "two") // its report waits for one.test
	const why = "1 recipient left out, the first because sender@one.test of "
	for _, end := range []string{"--dry-run", "--yes"} {
		r := sh.run(t, "queue", "bounce", "--domain", "one.test", end)
		wantError(t, r, exitFailed, why)
		if r.out != "" || !strings.Contains(r.err, "is a report, which causes none itself: delete it") {
			t.Errorf("%+v", r)
		}
	}
	w.Accept(time.Minute, "s@x.test", "r@one.test")
	for _, c := range []struct{ end, done string }{{"--dry-run", "would be returned"}, {"--yes", "to be returned"}} {
		r := sh.run(t, "queue", "bounce", "--domain", "one.test", c.end)
		if r.status != exitDone || !strings.HasPrefix(r.out, "1 message with 1 recipient "+c.done+"\n"+why) {
			t.Errorf("%s: %+v", c.end, r)
		}
	}
}
