package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/admintest"
)

type exported struct {
	t    tester
	conn grpc.ClientConnInterface
}

// tester is what the tests have in common with rapid's.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func (e exported) export(withoutRevision bool) string {
	e.t.Helper()
	stream, err := pb.NewSettingsServiceClient(e.conn).ExportConfiguration(context.Background(),
		&pb.ExportConfigurationRequest{WithoutRevision: withoutRevision})
	if err != nil {
		e.t.Fatalf("export: %v", err)
	}
	var text []byte
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return string(text)
		}
		if err != nil {
			e.t.Fatalf("export: %v", err)
		}
		text = append(text, r.Data...)
	}
}

func (e exported) apply(text string, options *pb.ApplyConfigurationRequest_Options) ([]*pb.ConfigurationDifference, *pb.ConfigurationSummary, error) {
	e.t.Helper()
	stream, err := pb.NewSettingsServiceClient(e.conn).ApplyConfiguration(context.Background())
	if err != nil {
		e.t.Fatalf("apply: %v", err)
	}
	requests := []*pb.ApplyConfigurationRequest{{What: &pb.ApplyConfigurationRequest_Options_{Options: options}}}
	for piece := range slices.Chunk([]byte(text), 1000) {
		requests = append(requests, &pb.ApplyConfigurationRequest{What: &pb.ApplyConfigurationRequest_Data{Data: piece}})
	}
	for _, r := range requests {
		if err := stream.Send(r); err != nil && !errors.Is(err, io.EOF) {
			e.t.Fatalf("send: %v", err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		e.t.Fatalf("close: %v", err)
	}
	var all []*pb.ConfigurationDifference
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil, nil, err
		}
		if s := r.GetSummary(); s != nil {
			return all, s, nil
		}
		all = append(all, r.GetDifference())
	}
}

func (e exported) mustApply(text string, options *pb.ApplyConfigurationRequest_Options) *pb.ConfigurationSummary {
	e.t.Helper()
	_, summary, err := e.apply(text, options)
	if err != nil {
		e.t.Fatalf("apply: %v %v", err, violations(err))
	}
	return summary
}

// violations are what a refusal lists, "line N: text".
func violations(err error) []string {
	var all []string
	for _, detail := range status.Convert(err).Details() {
		if list, ok := detail.(*errdetails.BadRequest); ok {
			for _, v := range list.FieldViolations {
				all = append(all, v.Field+": "+v.Description)
			}
		}
	}
	return all
}

// Any configuration, exported and applied to an empty cluster, exports the same;
// applied where it comes from, it changes nothing.
func TestConfigurationRoundTrip(t *testing.T) {
	from, to := connected(t, created(t, "from")), connected(t, created(t, "to"))
	empty := from.export(true)
	rapid.Check(t, func(rt *rapid.T) {
		from.t, to.t = rt, rt
		for _, e := range []*exported{from, to} {
			e.mustApply(empty, &pb.ApplyConfigurationRequest_Options{Prune: true})
			if got := e.export(true); got != empty {
				rt.Fatalf("emptied, it exports\n%s", got)
			}
		}
		passwords := configureAtRandom(rt, from.conn)
		file := from.export(false)
		if s := from.mustApply(file, &pb.ApplyConfigurationRequest_Options{Prune: true}); s.Index != 0 || s.Fingerprint != "" {
			rt.Fatalf("applying an export changed %v", s)
		}
		// Passwords aren't exported: whoever moves to another cluster adds them.
		withPasswords := file
		for user, password := range passwords {
			line := "auth_user = \"" + user + "\"\n"
			withPasswords = strings.Replace(withPasswords, line, line+"auth_password = \""+password+"\"\n", 1)
		}
		to.mustApply(withPasswords, &pb.ApplyConfigurationRequest_Options{Revision: 0, Force: true})
		if got, want := to.export(true), from.export(true); got != want {
			rt.Fatalf("exported\n%s\nand then\n%s", want, got)
		}
		for _, password := range passwords {
			if strings.Contains(file, password) {
				rt.Errorf("the password %s is in the export", password)
			}
		}
	})
}

func configureAtRandom(t *rapid.T, conn grpc.ClientConnInterface) map[string]string {
	ctx := context.Background()
	check := func(_ any, err error) {
		if err != nil {
			t.Fatalf("%v", err)
		}
	}
	text := rapid.StringMatching(`[A-Za-z"\\ é#=]{1,8}`)
	localPart := rapid.StringMatching(`[A-Za-zé#.]{1,8}|"[a-z\\\\ #]{0,3}[a-z]"`)
	passwords := make(map[string]string)
	policies := []string{"five-day", "month"}
	for i := range rapid.IntRange(0, 3).Draw(t, "policies") {
		name := fmt.Sprintf("own.%d", i)
		policies = append(policies, name)
		retention := time.Duration(rapid.Int64Range(int64(time.Hour), int64(300*24*time.Hour)).Draw(t, "retention"))
		check(pb.NewPolicyServiceClient(conn).SetPolicy(ctx, &pb.SetPolicyRequest{
			Name: name, Retention: durationpb.New(retention), WarnAfter: durationpb.New(retention / 3),
			Phases: []*pb.PolicyPhase{{Until: durationpb.New(retention / 2), Every: durationpb.New(2 * time.Hour),
				Factor: 1 + float64(rapid.IntRange(0, 9000).Draw(t, "factor"))/1000}},
			Jitter: new(float64(rapid.IntRange(0, 500).Draw(t, "jitter")) / 1000),
		}))
	}
	var destinations []string
	for i := range rapid.IntRange(1, 4).Draw(t, "destinations") {
		name := fmt.Sprintf("dest.%d", i)
		destinations = append(destinations, name)
		req := &pb.SetDestinationRequest{
			Name: name, Slots: new(rapid.Uint32Range(1, 1000).Draw(t, "slots")),
			On_5Xx:   new(rapid.SampledFrom([]string{"bounce", "hold"}).Draw(t, "on 5xx")),
			Tls:      new(rapid.SampledFrom([]string{"none", "opportunistic", "require", "verify"}).Draw(t, "tls")),
			ProbeMax: durationpb.New(time.Duration(rapid.IntRange(5, 86400).Draw(t, "probe")) * time.Second),
		}
		if rapid.Bool().Draw(t, "mx") {
			req.Mx = new("mail.test")
		} else {
			req.Hosts = []*pb.DestinationHost{{Address: "[::1]:25", Priority: rapid.Uint32Range(0, 65535).Draw(t, "priority"), Weight: 1}, {Address: "mail.test:26", Priority: 10, Weight: 1}}
		}
		if rapid.Bool().Draw(t, "auth") {
			req.AuthUser, req.AuthPassword = new(fmt.Sprintf("user%d", i)), new(fmt.Sprintf("secret%d", i))
			passwords[*req.AuthUser] = *req.AuthPassword
		}
		check(pb.NewDestinationServiceClient(conn).SetDestination(ctx, req))
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "domains") {
		req := &pb.SetDomainRequest{
			Name: fmt.Sprintf("customer-%d.test", i), Destination: new(rapid.SampledFrom(destinations).Draw(t, "destination")),
			Policy:      new(rapid.SampledFrom(policies).Draw(t, "policy")),
			MaxMessages: new(rapid.Uint64Range(0, 1<<40).Draw(t, "messages")),
		}
		if rapid.Bool().Draw(t, "spam") {
			req.SpamIf = []string{"X-Spam-Verdict=" + text.Draw(t, "verdict"), "X-Spam-Score>5"}
			req.SpamRetention = durationpb.New(time.Duration(rapid.IntRange(1, 100_000).Draw(t, "spam retention")) * time.Second)
		}
		req.Verify = new(rapid.SampledFrom([]pb.Verify{pb.Verify_VERIFY_OFF, pb.Verify_VERIFY_CALLOUT, pb.Verify_VERIFY_LISTED}).Draw(t, "verify"))
		if _, err := pb.NewDomainServiceClient(conn).SetDomain(ctx, req); status.Code(err) == codes.InvalidArgument {
			continue // a rule that can't be
		} else {
			check(nil, err)
		}
		if list := rapid.SliceOfN(localPart, 0, 20).Draw(t, "recipients"); len(list) > 0 {
			check(pb.NewRecipientServiceClient(conn).AddRecipients(ctx, &pb.AddRecipientsRequest{Domain: req.Name, Addresses: list}))
		}
	}
	if rapid.Bool().Draw(t, "settings") {
		check(pb.NewSettingsServiceClient(conn).SetSettings(ctx, &pb.SetSettingsRequest{Settings: &pb.Settings{
			LogRetention: new(int64(time.Duration(rapid.IntRange(25, 9999).Draw(t, "log retention")) * time.Hour)),
			DrillConsent: new(true), WarnPending: new(rapid.Uint64Range(0, 1<<40).Draw(t, "warn")),
		}}))
	}
	return passwords
}

func connected(t testing.TB, w *admintest.World) *exported {
	conn, err := grpc.NewClient(w.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return &exported{t: t, conn: conn}
}

// created is a world whose cluster has an id.
func created(t testing.TB, cluster string) *admintest.World {
	w := admintest.Start(t)
	create(w, cluster)
	return w
}

func create(w *admintest.World, cluster string) {
	w.FoldAs(0, 0, &pb.Event{Kind: &pb.Event_ClusterCreated{ClusterCreated: &pb.ClusterCreated{ClusterId: cluster}}}, nil)
}

func TestConfigurationAppliesAsOne(t *testing.T) {
	w := admintest.Start(t)
	e := connected(t, w)
	before := len(w.Proposed())
	s := e.mustApply(`
[destination.office]
hosts = ["mail.test:25"]
[domain."b.test"]
destination = "office"
policy = "own"
[domain]
"a.test" = {destination = "office", max_messages = 7}
[policy.own]
phases = ["until=2h,every=15m"]
retention = "4d"
[settings]
warn_pending = 3
`, &pb.ApplyConfigurationRequest_Options{})
	proposed := w.Proposed()[before:]
	if len(proposed) != 1 || proposed[0].GetConfigurationApplied() == nil || proposed[0].By == "" {
		t.Errorf("proposed %v", proposed)
	}
	if s.Created != 4 || s.Changed != 1 || s.Index == 0 {
		t.Errorf("%v", s)
	}
	if d, ok := w.State.Domain("a.test"); !ok || d.MaxMessages != 7 || d.Policy != relay.DefaultPolicy || d.Revision != s.Index {
		t.Errorf("%v", d)
	}
	// What a file leaves out stays; with --prune it goes. A setting always stays.
	s = e.mustApply("[destination.other]\nmx = \"mail.test\"\n", &pb.ApplyConfigurationRequest_Options{})
	if s.Created != 1 || s.Changed+s.Removed != 0 {
		t.Errorf("%v", s)
	}
	s = e.mustApply("[destination.other]\nmx = \"mail.test\"\n", &pb.ApplyConfigurationRequest_Options{Prune: true})
	if s.Removed != 4 || len(w.State.Domains()) != 0 || w.State.Settings().WarnPending != 3 {
		t.Errorf("%v", s)
	}
}

func TestLargeConfigurationIsStaged(t *testing.T) {
	w := admintest.Start(t)
	e := connected(t, w)
	var b strings.Builder
	b.WriteString("[destination.office]\nhosts = [\"mail.test:25\"]\n")
	for i := range 8000 {
		fmt.Fprintf(&b, "[domain.\"a-customer-with-a-long-name-%05d.example.test\"]\ndestination = \"office\"\n", i)
	}
	e.mustApply(b.String(), &pb.ApplyConfigurationRequest_Options{})
	pieces := 0
	for _, event := range w.Proposed() {
		if event.GetContentAppended() != nil {
			pieces++
		}
	}
	if pieces < 2 || len(w.State.Domains()) != 8000 {
		t.Errorf("%d pieces, %d domains", pieces, len(w.State.Domains()))
	}
}

func TestStaleConfigurationIsRefused(t *testing.T) {
	w := created(t, "cluster")
	w.Configure()
	e := connected(t, w)
	file := e.export(false)
	domains := pb.NewDomainServiceClient(e.conn)
	changed := strings.ReplaceAll(file, `destination = "two"`, `destination = "one"`)
	set := func(req *pb.SetDomainRequest) {
		t.Helper()
		if _, err := domains.SetDomain(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}

	// Somebody else changes another domain, and adds one: no conflict.
	set(&pb.SetDomainRequest{Name: "one.test", Policy: new("month")})
	set(&pb.SetDomainRequest{Name: "new.test", Destination: new("one")})
	if _, _, err := e.apply(changed, &pb.ApplyConfigurationRequest_Options{DryRun: true}); status.Code(err) != codes.Aborted ||
		!slices.ContainsFunc(violations(err), func(v string) bool {
			return strings.HasPrefix(v, "line ") && strings.Contains(v, ": domain one.test was changed by ") &&
				strings.HasSuffix(v, `since the file was made: policy "five-day" -> "month"`)
		}) || len(violations(err)) != 1 {
		t.Errorf("%v %v", err, violations(err))
	}
	// Taken over into the file, that domain differs no more.
	merged := strings.Replace(changed, `policy = "five-day"`, `policy = "month"`, 1)
	if s := e.mustApply(merged, &pb.ApplyConfigurationRequest_Options{}); s.Changed != 1 || s.Removed != 0 {
		t.Errorf("%v", s)
	}
	// --prune would remove what was created since, and says so.
	_, _, err := e.apply(merged, &pb.ApplyConfigurationRequest_Options{Prune: true})
	if status.Code(err) != codes.Aborted || !strings.Contains(fmt.Sprint(violations(err)), "domain new.test was created by ") {
		t.Errorf("%v %v", err, violations(err))
	}
	if _, err := domains.RemoveDomain(t.Context(), &pb.RemoveDomainRequest{Name: "two.test"}); err != nil {
		t.Fatal(err)
	}
	_, _, err = e.apply(file, &pb.ApplyConfigurationRequest_Options{})
	if status.Code(err) != codes.Aborted || !strings.Contains(fmt.Sprint(violations(err)), "domain two.test was removed by ") {
		t.Errorf("%v %v", err, violations(err))
	}
	before := e.export(true)
	if before != e.export(true) || strings.Contains(before, "two.test\"]") {
		t.Error("a refused file changed something")
	}
	// By force, and with a revision that is new enough.
	e.mustApply(file, &pb.ApplyConfigurationRequest_Options{Force: true})
	_, s, err := e.apply(changed, &pb.ApplyConfigurationRequest_Options{DryRun: true, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	e.mustApply(changed, &pb.ApplyConfigurationRequest_Options{Revision: s.Revision, Fingerprint: s.Fingerprint})
	// What was confirmed is what is carried out.
	if _, _, err := e.apply(file, &pb.ApplyConfigurationRequest_Options{Force: true, Fingerprint: s.Fingerprint}); status.Code(err) != codes.Aborted {
		t.Errorf("another difference than the one that was shown: %v", err)
	}
	// A revision of another cluster says nothing here.
	foreign := strings.Replace(file, "@cluster", "@another", 1)
	if _, s, err := e.apply(foreign, &pb.ApplyConfigurationRequest_Options{DryRun: true}); err != nil || !s.ForeignRevision {
		t.Errorf("%v %v", s, err)
	}
}

func TestConfigurationInUseIsNotRemoved(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	w.Accept(time.Hour, "sender@elsewhere.test", "you@two.test")
	e := connected(t, w)
	before := e.export(true)
	_, _, err := e.apply("[destination.one]\nhosts = [\"mail.one.test:25\"]\n[domain.\"new.test\"]\ndestination = \"one\"\n",
		&pb.ApplyConfigurationRequest_Options{Prune: true})
	want := []string{
		": destination two has 1 queued recipient: wait until all are delivered or returned; `holdfast queue list --destination two` shows them",
		": domain two.test has 1 queued recipient: wait until all are delivered or returned; `holdfast queue list --domain two.test` shows them",
	}
	if got := violations(err); !slices.Equal(got, want) {
		t.Errorf("%v: %q", err, got)
	}
	if got := e.export(true); got != before {
		t.Errorf("it changed to\n%s", got)
	}
}

// A domain that a token is limited to stays: the difference says so before anything
// is carried out, with the way out.
func TestConfigurationOfATokenIsNotRemoved(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	e := connected(t, w)
	access := pb.NewAccessServiceClient(e.conn)
	if _, err := access.CreateToken(t.Context(), &pb.CreateTokenRequest{
		Name: "customer", Role: pb.Role_ROLE_VIEWER, Domains: []string{"two.test"},
	}); err != nil {
		t.Fatal(err)
	}
	const file = "[destination.one]\nhosts = [\"mail.one.test:25\"]\n"
	want := []string{": domain two.test is one that token customer is limited to: `holdfast token revoke customer` comes first"}
	for _, dryRun := range []bool{true, false} {
		_, _, err := e.apply(file, &pb.ApplyConfigurationRequest_Options{Prune: true, DryRun: dryRun})
		if got := violations(err); status.Code(err) != codes.InvalidArgument || !slices.Equal(got, want) {
			t.Errorf("dry run %v: %v: %q", dryRun, err, got)
		}
	}
	if _, err := pb.NewDomainServiceClient(e.conn).RemoveDomain(t.Context(), &pb.RemoveDomainRequest{Name: "two.test"}); status.Code(err) != codes.FailedPrecondition ||
		": "+status.Convert(err).Message() != want[0] {
		t.Error(err)
	}
	if _, err := access.RevokeToken(t.Context(), &pb.RevokeTokenRequest{Token: "customer"}); err != nil {
		t.Fatal(err)
	}
	if s := e.mustApply(file, &pb.ApplyConfigurationRequest_Options{Prune: true}); s.Removed != 3 {
		t.Errorf("%v", s)
	}
}

// The postmaster's domain is one that there will be: a dry run refuses what carrying
// it out would, each with the way out.
func TestConfigurationHasThePostmastersDomain(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	e := connected(t, w)
	postmaster := &pb.Settings{Postmaster: new("help@one.test")}
	if _, err := pb.NewSettingsServiceClient(e.conn).SetSettings(t.Context(), &pb.SetSettingsRequest{Settings: postmaster}); err != nil {
		t.Fatal(err)
	}
	const (
		rest   = "[destination.two]\nhosts = [\"mail.two.test:25\"]\n[domain.\"two.test\"]\ndestination = \"two\"\nverify = \"off\"\n"
		pruned = ": domain one.test has the postmaster, help@one.test, and --prune would remove it: add it to the file, or set another postmaster, or \"\", under [settings]"
	)
	for _, c := range []struct {
		settings, problem string
		prune             bool
	}{
		{"", pruned, true},
		{"[settings]\nwarn_pending = 3\n", pruned, true},
		{"[settings]\npostmaster = \"help@ONE.test\"\n", "line 7" + strings.ReplaceAll(pruned, "@one", "@ONE"), true},
		{"[settings]\npostmaster = \"help@new.test\"\n", "line 7: postmaster: domain new.test is neither configured here nor in the file: add it to the file", false},
		{"[settings]\npostmaster = \"help@new.test\"\n", "line 7: postmaster: domain new.test is neither configured here nor in the file: add it to the file", true},
		{"[settings]\npostmaster = \"help\"\n", "line 7: postmaster: \"help\" is not a mail address with a domain", true},
		{"[settings]\npostmaster = 1\n", "line 7: postmaster: want a text in quotes", true},
	} {
		for _, dryRun := range []bool{true, false} {
			_, _, err := e.apply(rest+c.settings, &pb.ApplyConfigurationRequest_Options{Prune: c.prune, DryRun: dryRun})
			if got := violations(err); status.Code(err) != codes.InvalidArgument || !slices.Equal(got, []string{c.problem}) {
				t.Errorf("%q, dry run %v: %v: %q", c.settings, dryRun, err, got)
			}
		}
	}
	for _, settings := range []string{
		"[settings]\npostmaster = \"help@new.test\"\n[domain.\"new.test\"]\ndestination = \"two\"\n",
		"[settings]\npostmaster = \"help@two.test\"\n",
		"[settings]\npostmaster = \"\"\n",
	} {
		e.mustApply(rest+settings, &pb.ApplyConfigurationRequest_Options{Prune: true})
	}
}

func TestConfigurationWithoutAQuorum(t *testing.T) {
	w := admintest.StartImpatient(t, time.Millisecond)
	create(w, "cluster")
	w.Configure()
	w.LoseQuorum(admintest.ErrNoQuorum)
	e := connected(t, w)
	file := strings.Replace(e.export(false), "slots = 20", "slots = 7", 1)
	if _, s, err := e.apply(file, &pb.ApplyConfigurationRequest_Options{DryRun: true}); err != nil || !s.Stale || s.Changed != 1 {
		t.Errorf("%v %v", s, err)
	}
	// Nor does a file that is as this node has it do nothing, and say that all is well.
	for _, text := range []string{file, e.export(false)} {
		for _, force := range []bool{false, true} {
			_, _, err := e.apply(text, &pb.ApplyConfigurationRequest_Options{Force: force})
			wantCode(t, err, codes.Unavailable, "nothing was changed")
		}
	}
}

// What a node that is behind has may be what the file says: it is applied to what the
// cluster has.
func TestConfigurationAsTheNodeHasIt(t *testing.T) {
	w := created(t, "cluster")
	w.Configure()
	e := connected(t, w)
	record, _ := w.State.Destination("one")
	changed := proto.CloneOf(record.Config)
	changed.Slots = 5
	w.ArriveLate(func() {
		w.Fold(&pb.Event{Kind: &pb.Event_DestinationSet{DestinationSet: &pb.DestinationSet{Destination: changed}}}, nil)
	}, nil)
	if _, s, err := e.apply(e.export(true), &pb.ApplyConfigurationRequest_Options{}); err != nil || s.Changed != 1 {
		t.Errorf("%v, %v", s, err)
	}
	if record, _ := w.State.Destination("one"); record.Config.Slots != 20 {
		t.Errorf("slots %d", record.Config.Slots)
	}
}

// Any text is a file that is applied or refused in words.
func FuzzApplyConfiguration(f *testing.F) {
	w := admintest.Start(f)
	w.Configure()
	e := connected(f, w)
	f.Add(e.export(false), true)
	f.Add("[domain.a.b]\n[[policy]]\nx = 1\n[settings.a]\nrevision = 1\n", false)
	f.Add("[domain]\n\"a.test\" = {destination = \"one\", destination = 1}\n\"b\" = 3\n", true)
	f.Add("[destination.\"\"]\nhosts = [[1], 2.5, inf]\nauth_user = \"x\"\n[destination.new]\nslots = 0x10\n", true)
	f.Add("settings = {log_retention = \"1s\", warn_oldest = 1979-05-27}\ndomain = 1\n", false)
	f.Fuzz(func(t *testing.T, text string, prune bool) {
		e := &exported{t: t, conn: e.conn}
		_, _, err := e.apply(text, &pb.ApplyConfigurationRequest_Options{DryRun: true, Prune: prune, Force: true})
		if code := status.Code(err); code != codes.OK && code != codes.InvalidArgument {
			t.Error(err)
		}
	})
}
