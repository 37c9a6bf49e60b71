package main

import (
	"encoding/json"
	"strings"
	"testing"

	pb "holdfast/proto/holdfast/v1"
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
	r := root.run(t, "queue", "operations")
	for _, want := range []string{
		"hold       --domain two.test --state pending", "release    --state held", "delete     --destination none", "reason: spam", "OPERATION",
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
