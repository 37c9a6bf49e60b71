package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// The lines of export --json have the names and values that each thing's own
// show --json has, for all that is configured of it, and nothing left out.
func TestExportJSON(t *testing.T) {
	w := admintest.Start(t)
	w.FoldAs(0, 0, &pb.Event{Kind: &pb.Event_ClusterCreated{ClusterCreated: &pb.ClusterCreated{ClusterId: "cluster"}}}, nil)
	w.Configure()
	sh := shellFor(w)
	for _, line := range []string{
		"policy set own --phase until=2h,every=15m --phase until=16h,every=15m,factor=1.5 --retention 4d --warn-after 4h",
		"destination set far --mx example.com --slots 3 --tls verify --on-5xx hold --probe-max 1h",
		"destination set near --host [::1]:25,priority=20 --host mail.test:26",
		"domain set example.com --destination far --policy own --spam-if X-Spam-Score>5 --max-messages 7",
		"domain set two.test --verify listed", "recipient add Bert@two.test anna@two.test",
		"settings set --warn-oldest 5h --drill-consent yes",
	} {
		if r := sh.run(t, strings.Fields(line)...); r.status != exitDone {
			t.Fatalf("%s: %+v", line, r)
		}
	}
	r := sh.run(t, "export", "--json", "--no-revision")
	if r.status != exitDone || r.err != "" {
		t.Fatalf("%+v", r)
	}
	var kinds []string
	for line := range strings.Lines(r.out) {
		exported := map[string]any{}
		if err := json.Unmarshal([]byte(line), &exported); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		kind := exported["kind"].(string)
		kinds = append(kinds, kind)
		delete(exported, "kind")
		args := []string{kind, "show", "--json"}
		if name, ok := exported["name"]; ok {
			args = append(args, name.(string))
		}
		shown := map[string]any{}
		if err := json.Unmarshal([]byte(sh.run(t, args...).out), &shown); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		if kind == "domain" {
			want := []any{}
			for _, address := range listedNow(t, sh, exported["name"].(string)) {
				local, _, _ := strings.Cut(address, "@")
				want = append(want, local)
			}
			if !reflect.DeepEqual(exported["recipients"], want) {
				t.Errorf("%v: recipients %v, and %v are listed", args, exported["recipients"], want)
			}
			delete(exported, "recipients")
		}
		for key, value := range exported {
			if other, ok := shown[key]; !ok || !reflect.DeepEqual(value, other) {
				t.Errorf("%v: %s is %v, and %v (%v) where it is shown", args, key, value, other, ok)
			}
		}
	}
	if got := strings.Join(kinds, " "); got != "settings policy destination destination destination destination domain domain domain" {
		t.Errorf("kinds: %s", got)
	}
	first, _, _ := strings.Cut(sh.run(t, "export", "--json").out, "\n")
	if !strings.HasPrefix(first, `{"kind":"revision","index":`) || !strings.Contains(first, `"cluster":`) {
		t.Errorf("with its revision: %s", first)
	}
}
