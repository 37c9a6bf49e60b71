package admin_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

const listHead = `[domain."one.test"]
destination = "one"
`

func TestRecipientsInAFile(t *testing.T) {
	w := created(t, "cluster")
	w.Configure()
	e, c := connected(t, w), dial(t, w)
	apply := func(list string) *pb.ConfigurationSummary {
		t.Helper()
		return e.mustApply(listHead+list+"\n", &pb.ApplyConfigurationRequest_Options{})
	}
	want := func(addresses ...string) {
		t.Helper()
		if got := listedAddresses(t, c, "one.test", 0); !slices.Equal(got, addresses) {
			t.Errorf("listed %q, want %q", got, addresses)
		}
	}
	apply(`recipients = ["bert", "Anna@ONE.test", "ANNA"]`)
	want("anna@one.test", "bert@one.test")
	if file := e.export(true); !strings.Contains(file, "\nrecipients = [\"anna\", \"bert\"]\n") || strings.Count(file, "recipients = [\"") != 1 {
		t.Errorf("%s", file)
	}
	config, _ := w.State.Domain("one.test")
	if s := apply(`recipients = ["anna", "carl"]`); s.Changed != 1 {
		t.Errorf("%v", s)
	}
	want("anna@one.test", "carl@one.test")
	if now, _ := w.State.Domain("one.test"); now.Revision != config.Revision {
		t.Errorf("the domain was set anew for its list")
	}
	if s := apply(`recipients = ["carl", "anna"]`); s.Fingerprint != "" {
		t.Errorf("%v", s)
	}
	apply("") // without the key, and with --prune
	e.mustApply(strings.ReplaceAll(e.export(true), `recipients = ["anna", "carl"]`, ""), &pb.ApplyConfigurationRequest_Options{Prune: true})
	want("anna@one.test", "carl@one.test")
	apply("recipients = []")
	want()

	// A new domain comes with its list at one index.
	e.mustApply("[domain.\"new.test\"]\ndestination = \"one\"\nverify = \"listed\"\nrecipients = [\"dora\"]\n", &pb.ApplyConfigurationRequest_Options{})
	if d, _ := w.State.Domain("new.test"); d.GetVerify() != pb.Verify_VERIFY_LISTED {
		t.Errorf("%v", d)
	}
	if listed, err := w.State.Listed("new.test", "dora"); !listed || err != nil {
		t.Errorf("%v, %v", listed, err)
	}
}

// A dry run counts, and names a few; an export has a line for each where there are
// many, and is read again.
func TestLongListsInAFile(t *testing.T) {
	w := created(t, "cluster")
	w.Configure()
	e := connected(t, w)
	var names []string
	for i := range 1200 {
		names = append(names, fmt.Sprintf("%q", fmt.Sprintf("u%04d", i)))
	}
	list := func(names []string) string { return listHead + "recipients = [" + strings.Join(names, ",") + "]\n" }
	e.mustApply(list(names), &pb.ApplyConfigurationRequest_Options{})
	file := e.export(true)
	if !strings.Contains(file, "recipients = [\n  \"u0000\",\n  \"u0001\",\n") || !strings.Contains(file, "  \"u1199\",\n]\n") {
		t.Errorf("%.2000s", file)
	}
	if s := e.mustApply(file, &pb.ApplyConfigurationRequest_Options{Prune: true}); s.Fingerprint != "" {
		t.Errorf("applying an export changed %v", s)
	}
	differences, _, err := e.apply(list(append(names[7:], `"new"`)), &pb.ApplyConfigurationRequest_Options{DryRun: true})
	if err != nil || len(differences) != 1 || len(differences[0].Values) != 1 {
		t.Fatalf("%v, %v", differences, err)
	}
	if v := differences[0].Values[0]; v.Key != "recipients" || v.Old != "1200 listed" ||
		v.New != "1194 listed (added new; removed u0000, u0001, u0002, u0003, u0004 and 2 more)" {
		t.Errorf("%v", v)
	}
}

func TestWrongRecipientsInAFile(t *testing.T) {
	w := created(t, "cluster")
	w.Configure()
	e := connected(t, w)
	_, _, err := e.apply(listHead+`recipients = [
  "anna",
  "bert@two.test",
  "an na",
]
verify = "perhaps"
[domain."two.test"]
destination = "two"
recipients = "all"
[domain."*"]
destination = "two"
recipients = ["anna"]
verify = "callout"
`, &pb.ApplyConfigurationRequest_Options{})
	want := []string{
		"line 5: recipients: bert@two.test is an address of domain two.test, not of one.test",
		`line 6: recipients: "an na" is neither a mail address nor a local part of one`,
		`line 8: verify: verify "perhaps": want off, callout or listed`,
		`line 11: recipients: want a list of texts, such as ["one", "two"]`,
		"line 14: domain * is the way to all others, and has no recipients of its own",
		"line 15: domain * is the way to all others, whose recipients nobody here knows: want verify off",
	}
	if got := violations(err); status.Code(err) != codes.InvalidArgument || !slices.Equal(got, want) {
		t.Errorf("%v\n%s", err, strings.Join(got, "\n"))
	}
}

// A list that somebody changed since the file was made isn't overwritten; other
// domains' lists don't matter.
func TestStaleListIsRefused(t *testing.T) {
	w := created(t, "cluster")
	w.Configure()
	e, c := connected(t, w), dial(t, w)
	add := func(domain, name string) {
		t.Helper()
		if _, err := pb.NewRecipientServiceClient(c.conn).AddRecipients(t.Context(), &pb.AddRecipientsRequest{Domain: domain, Addresses: []string{name}}); err != nil {
			t.Fatal(err)
		}
	}
	add("one.test", "anna")
	file := strings.Replace(e.export(false), `"anna"`, `"anna", "bert"`, 1)
	add("two.test", "carl")
	e.mustApply(file, &pb.ApplyConfigurationRequest_Options{DryRun: true})
	add("one.test", "dora")
	_, _, err := e.apply(file, &pb.ApplyConfigurationRequest_Options{})
	if got := violations(err); status.Code(err) != codes.Aborted || len(got) != 1 ||
		!strings.Contains(got[0], ": the recipients of domain one.test were changed by local user ") {
		t.Errorf("%v %q", err, got)
	}
	e.mustApply(file, &pb.ApplyConfigurationRequest_Options{Force: true})
	if got := listedAddresses(t, c, "one.test", 0); !slices.Equal(got, []string{"anna@one.test", "bert@one.test"}) {
		t.Errorf("%q", got)
	}
}
