package admin_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/admintest"
)

func setVerify(t *testing.T, c client, domain string, verify pb.Verify) {
	t.Helper()
	if _, err := c.SetDomain(t.Context(), &pb.SetDomainRequest{Name: domain, Verify: &verify}); err != nil {
		t.Fatal(err)
	}
}

// listedAddresses reads a list in pages of one size.
func listedAddresses(t *testing.T, c client, domain string, size uint32) []string {
	t.Helper()
	var all []string
	for token := ""; ; {
		r, err := pb.NewRecipientServiceClient(c.conn).ListRecipients(t.Context(), &pb.ListRecipientsRequest{Domain: domain, PageSize: size, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, recipient := range r.Recipients {
			if recipient.AddedBy == "" || !recipient.AddedAt.AsTime().Equal(admintest.Now) {
				t.Errorf("%v", recipient)
			}
			all = append(all, recipient.Address)
		}
		if token = r.NextPageToken; token == "" {
			return all
		}
	}
}

func TestListedRecipients(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	recipients := pb.NewRecipientServiceClient(c.conn)
	added, err := recipients.AddRecipients(t.Context(), &pb.AddRecipientsRequest{
		Domain: "ONE.test", Addresses: []string{"Anna@One.Test", "bert", "ANNA", "J\u00d6RG", `"Emil M"@one.test`},
	})
	if err != nil || added.Added != 4 || added.Listed != 4 {
		t.Errorf("%v, %v", added, err)
	}
	want := []string{`"emil m"@one.test`, "anna@one.test", "bert@one.test", "j\u00f6rg@one.test"}
	for _, size := range []uint32{0, 1, 3, 4} {
		if got := listedAddresses(t, c, "one.test", size); !slices.Equal(got, want) {
			t.Errorf("pages of %d: %q", size, got)
		}
	}
	// As RCPT has it, in whatever case.
	for local, want := range map[string]bool{"aNNa": true, "j\u00f6rg": true, "carl": false} {
		if listed, err := w.State.Listed("one.test", local); err != nil || listed != want {
			t.Errorf("%s: listed %v, %v", local, listed, err)
		}
	}
	removed, err := recipients.RemoveRecipients(t.Context(), &pb.RemoveRecipientsRequest{Domain: "one.test", Addresses: []string{"BERT", "nobody", "J\u00f6rg"}})
	if err != nil || removed.Removed != 2 || removed.Listed != 2 {
		t.Errorf("%v, %v", removed, err)
	}
	if d, err := c.GetDomain(t.Context(), &pb.GetDomainRequest{Name: "one.test"}); err != nil || d.Domain.Listed != 2 || d.Domain.Verify != pb.Verify_VERIFY_OFF {
		t.Errorf("%v, %v", d, err)
	}
}

// A domain is found in U-labels too, as addresses have it.
func TestListOfAnInternationalDomain(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	created, err := c.SetDomain(t.Context(), &pb.SetDomainRequest{Name: "xn--bcher-kva.test", Destination: new("one")})
	if err != nil || created.Domain.Verify != pb.Verify_VERIFY_CALLOUT {
		t.Fatalf("%v, %v", created, err)
	}
	recipients := pb.NewRecipientServiceClient(c.conn)
	for _, domain := range []string{"B\u00fccher.test", "xn--bcher-KVA.test"} {
		if _, err := recipients.AddRecipients(t.Context(), &pb.AddRecipientsRequest{Domain: domain, Addresses: []string{"anna@b\u00fccher.test"}}); err != nil {
			t.Errorf("%s: %v", domain, err)
		}
	}
	if got := listedAddresses(t, c, "b\u00fccher.test", 0); !slices.Equal(got, []string{"anna@xn--bcher-kva.test"}) {
		t.Errorf("%q", got)
	}
	w.SetAnswer("Anna@xn--bcher-kva.test", &pb.CheckRecipientResponse{Code: 250, Reason: pb.CheckRecipientResponse_REASON_LISTED})
	checked, err := recipients.CheckRecipient(t.Context(), &pb.CheckRecipientRequest{Address: "Anna@B\u00dccher.test"})
	if err != nil || checked.Reason != pb.CheckRecipientResponse_REASON_LISTED {
		t.Errorf("%v, %v", checked, err)
	}
}

func TestRecipientsThatCantBeListed(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	if _, err := c.SetDomain(t.Context(), &pb.SetDomainRequest{Name: relay.DefaultRoute, Destination: new("one")}); err != nil {
		t.Fatal(err)
	}
	before := len(w.Proposed())
	recipients := pb.NewRecipientServiceClient(c.conn)
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprintf("u%d", i)
	}
	for _, c := range []struct {
		domain    string
		addresses []string
		code      codes.Code
		text      string
	}{
		{"one.test", nil, codes.InvalidArgument, "no recipient is given"},
		{"one.test", many, codes.InvalidArgument, "1001 recipients in a call: want 1000 at most"},
		{"one.test", []string{"anna", "bert@two.test"}, codes.InvalidArgument, "bert@two.test is an address of domain two.test, not of one.test"},
		{"one.test", []string{"an na"}, codes.InvalidArgument, `"an na" is neither a mail address nor a local part`},
		{"none.test", []string{"anna"}, codes.NotFound, "no domain none.test"},
		{"", []string{"anna"}, codes.NotFound, "no domain"},
		{"*", []string{"anna"}, codes.InvalidArgument, "has no recipients of its own"},
	} {
		_, err := recipients.AddRecipients(t.Context(), &pb.AddRecipientsRequest{Domain: c.domain, Addresses: c.addresses})
		wantCode(t, err, c.code, c.text)
		_, err = recipients.RemoveRecipients(t.Context(), &pb.RemoveRecipientsRequest{Domain: c.domain, Addresses: c.addresses})
		wantCode(t, err, c.code, c.text)
	}
	if n := len(w.Proposed()); n != before {
		t.Errorf("%d events", n-before)
	}
	w.FallBehind(errors.New("node b is behind"))
	_, err := recipients.AddRecipients(t.Context(), &pb.AddRecipientsRequest{Domain: "one.test", Addresses: []string{"anna"}})
	wantCode(t, err, codes.Unavailable, "node b is behind; repeating it is safe")
	w.LoseQuorum(admintest.ErrNoQuorum)
	_, err = recipients.AddRecipients(t.Context(), &pb.AddRecipientsRequest{Domain: "one.test", Addresses: []string{"bert"}})
	wantCode(t, err, codes.Unavailable, "no quorum")
	list, err := recipients.ListRecipients(t.Context(), &pb.ListRecipientsRequest{Domain: "one.test"})
	if err != nil || !list.Stale || len(list.Recipients) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestVerifyOfDomains(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	set := func(name string, verify *pb.Verify) (*pb.Domain, error) {
		r, err := c.SetDomain(t.Context(), &pb.SetDomainRequest{Name: name, Destination: new("one"), Verify: verify})
		return r.GetDomain(), err
	}
	for _, step := range []struct {
		name   string
		verify *pb.Verify
		want   pb.Verify
	}{
		{"one.test", nil, pb.Verify_VERIFY_OFF}, // as it was
		{"new.test", nil, pb.Verify_VERIFY_CALLOUT},
		{"new.test", new(pb.Verify_VERIFY_LISTED), pb.Verify_VERIFY_LISTED},
		{"new.test", nil, pb.Verify_VERIFY_LISTED},
		{"off.test", new(pb.Verify_VERIFY_OFF), pb.Verify_VERIFY_OFF},
		{"*", nil, pb.Verify_VERIFY_OFF},
		{"*", new(pb.Verify_VERIFY_OFF), pb.Verify_VERIFY_OFF},
	} {
		if d, err := set(step.name, step.verify); err != nil || d.Verify != step.want {
			t.Errorf("%s: %v, %v", step.name, d, err)
		}
	}
	for name, verify := range map[string]pb.Verify{"*": pb.Verify_VERIFY_CALLOUT, "one.test": 7, "new.test": pb.Verify_VERIFY_UNSPECIFIED} {
		_, err := set(name, &verify)
		wantCode(t, err, codes.InvalidArgument, "verify")
	}
}

// A domain goes with its list, unless that is too long for one event.
func TestDomainWithAListIsRemoved(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	recipients := pb.NewRecipientServiceClient(c.conn)
	for _, from := range []int{0, 1000} {
		req := &pb.AddRecipientsRequest{Domain: "one.test"}
		for i := range 1000 {
			req.Addresses = append(req.Addresses, fmt.Sprintf("u%d", from+i))
		}
		if _, err := recipients.AddRecipients(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	remove := func() error {
		_, err := c.RemoveDomain(t.Context(), &pb.RemoveDomainRequest{Name: "one.test"})
		return err
	}
	wantCode(t, remove(), codes.FailedPrecondition, "domain one.test has 2000 listed recipients: `holdfast recipient remove --all one.test` comes first")
	if _, err := recipients.RemoveRecipients(t.Context(), &pb.RemoveRecipientsRequest{Domain: "one.test", Addresses: listedAddresses(t, c, "one.test", 1000)[:1000]}); err != nil {
		t.Fatal(err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
}

func verifyRecipient(w *admintest.World, domain, local string, verdict, ofDomain pb.Verdict) {
	destination, _ := w.State.Destination(strings.TrimSuffix(domain, ".test"))
	event := &pb.RecipientVerified{
		LocalPart: local, Domain: domain, Destination: destination.Config.Name, Revision: destination.Config.Revision,
		Verdict: verdict, DomainVerdict: ofDomain,
		Until: admintest.Now.Add(time.Hour).UnixNano(), DomainUntil: admintest.Now.Add(time.Hour).UnixNano(),
	}
	if verdict == pb.Verdict_VERDICT_INVALID {
		event.Failure = &pb.Failure{Cause: "rejected", Phase: "rcpt", Code: 550, Text: "unknown", At: admintest.Now.UnixNano()}
	}
	w.Fold(&pb.Event{Kind: &pb.Event_RecipientVerified{RecipientVerified: event}}, nil)
}

func TestVerifiedRecipientsInPages(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	setVerify(t, c, "one.test", pb.Verify_VERIFY_CALLOUT)
	verifyRecipient(w, "one.test", "Anna", pb.Verdict_VERDICT_VALID, pb.Verdict_VERDICT_SELECTIVE)
	verifyRecipient(w, "one.test", "bert", pb.Verdict_VERDICT_INVALID, pb.Verdict_VERDICT_SELECTIVE)
	for _, size := range []uint32{0, 1, 2, 3} {
		var got []string
		for token := ""; ; {
			r, err := pb.NewRecipientServiceClient(c.conn).ListVerified(t.Context(), &pb.ListVerifiedRequest{Domain: "one.test", PageSize: size, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range r.Recipients {
				if v.At == nil || v.Until == nil || (v.Error != nil) != (v.Verdict == pb.Verdict_VERDICT_INVALID) {
					t.Errorf("%v", v)
				}
				got = append(got, fmt.Sprintf("%s %s", v.Address, v.Verdict))
			}
			if token = r.NextPageToken; token == "" {
				break
			}
		}
		if want := []string{" VERDICT_SELECTIVE", "Anna@one.test VERDICT_VALID", "bert@one.test VERDICT_INVALID"}; !slices.Equal(got, want) {
			t.Errorf("pages of %d: %q", size, got)
		}
	}
}

// A caller who is limited to a domain keeps its list, and finds out nothing of others:
// neither whether they are configured nor who is listed there.
func TestRecipientsOfLimitedCallers(t *testing.T) {
	v := openWindow(t)
	all := dial(t, v.World)
	for _, domain := range []string{"one.test", "two.test"} {
		setVerify(t, all, domain, pb.Verify_VERIFY_CALLOUT)
		verifyRecipient(v.World, domain, "secret", pb.Verdict_VERDICT_VALID, pb.Verdict_VERDICT_SELECTIVE)
		if _, err := pb.NewRecipientServiceClient(all.conn).AddRecipients(t.Context(), &pb.AddRecipientsRequest{Domain: domain, Addresses: []string{"anna"}}); err != nil {
			t.Fatal(err)
		}
		v.SetAnswer("anna@"+domain, &pb.CheckRecipientResponse{Code: 250, Reason: pb.CheckRecipientResponse_REASON_LISTED})
	}
	operator := pb.NewRecipientServiceClient(v.conn)
	viewer := pb.NewRecipientServiceClient(dialWith(t, v.World, createToken(t, v.World, &pb.CreateTokenRequest{
		Name: "reader", Role: pb.Role_ROLE_VIEWER, Domains: []string{"one.test"},
	})).conn)
	for _, of := range []struct{ domain, never string }{{"two.test", "none.test"}} {
		for _, c := range []pb.RecipientServiceClient{operator, viewer} {
			_, err := c.ListRecipients(t.Context(), &pb.ListRecipientsRequest{Domain: of.domain})
			wantCode(t, err, codes.NotFound, "no domain two.test")
			_, err = c.ListVerified(t.Context(), &pb.ListVerifiedRequest{Domain: of.domain})
			wantCode(t, err, codes.NotFound, "no domain two.test")
			foreign, err := c.CheckRecipient(t.Context(), &pb.CheckRecipientRequest{Address: "anna@" + of.domain})
			if err != nil {
				t.Fatal(err)
			}
			never, err := c.CheckRecipient(t.Context(), &pb.CheckRecipientRequest{Address: "anna@" + of.never})
			if err != nil || never.String() != foreign.String() || never.Reason != pb.CheckRecipientResponse_REASON_NO_DOMAIN || never.Code != 550 {
				t.Errorf("%v, and of a domain that isn't there %v, %v", foreign, never, err)
			}
			own, err := c.CheckRecipient(t.Context(), &pb.CheckRecipientRequest{Address: "anna@one.test"})
			if err != nil || own.Code != 250 {
				t.Errorf("%v, %v", own, err)
			}
		}
		_, err := operator.AddRecipients(t.Context(), &pb.AddRecipientsRequest{Domain: of.domain, Addresses: []string{"bert"}})
		wantCode(t, err, codes.NotFound, "no domain two.test")
		_, err = operator.RemoveRecipients(t.Context(), &pb.RemoveRecipientsRequest{Domain: of.domain, Addresses: []string{"anna"}})
		wantCode(t, err, codes.NotFound, "no domain two.test")
	}
	if added, err := operator.AddRecipients(t.Context(), &pb.AddRecipientsRequest{Domain: "one.test", Addresses: []string{"bert"}}); err != nil || added.Listed != 2 {
		t.Errorf("%v, %v", added, err)
	}
	if r, err := operator.CheckRecipient(t.Context(), &pb.CheckRecipientRequest{Address: "anna@one.test", Anew: true}); err != nil || !strings.Contains(r.Text, "anew") {
		t.Errorf("%v, %v", r, err)
	}
	_, err := viewer.AddRecipients(t.Context(), &pb.AddRecipientsRequest{Domain: "one.test", Addresses: []string{"carl"}})
	wantCode(t, err, codes.PermissionDenied, "AddRecipients needs the role operator")
	_, err = viewer.CheckRecipient(t.Context(), &pb.CheckRecipientRequest{Address: "anna@one.test", Anew: true})
	wantCode(t, err, codes.PermissionDenied, "needs the role operator; token reader has viewer")
	_, err = viewer.CheckRecipient(t.Context(), &pb.CheckRecipientRequest{Address: "anna"})
	wantCode(t, err, codes.InvalidArgument, `"anna" is not a mail address`)
}

// A node that takes no mail at all answers so for every address: of a domain that it
// doesn't have it may just not know yet.
func TestCheckOfARecipientWhileNothingIsTaken(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	recipients := pb.NewRecipientServiceClient(dial(t, w).conn)
	w.LoseQuorum(admintest.ErrNoQuorum)
	r, err := recipients.CheckRecipient(t.Context(), &pb.CheckRecipientRequest{Address: "anna@none.test"})
	if err != nil || r.Code != 451 || r.Reason != pb.CheckRecipientResponse_REASON_UNKNOWN {
		t.Errorf("%v, %v", r, err)
	}
	w.LoseQuorum(nil)
	if r, err = recipients.CheckRecipient(t.Context(), &pb.CheckRecipientRequest{Address: "anna@none.test"}); err != nil || r.Code != 550 {
		t.Errorf("%v, %v", r, err)
	}
}
