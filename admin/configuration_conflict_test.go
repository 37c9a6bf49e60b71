package admin_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// A password that somebody set since the file was made isn't overwritten by the one
// that the file has, nor removed, and no conflict shows either.
func TestStalePasswordIsRefused(t *testing.T) {
	w := created(t, "cluster")
	w.Configure()
	e := connected(t, w)
	set := func(password string) {
		t.Helper()
		if _, err := pb.NewDestinationServiceClient(e.conn).SetDestination(t.Context(), &pb.SetDestinationRequest{
			Name: "one", AuthUser: new("relay"), AuthPassword: &password,
		}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(password string) {
		t.Helper()
		d, _ := w.State.Destination("one")
		if got := d.GetConfig().GetAuthPassword(); got != password {
			t.Errorf("the password is %q, want %q", got, password)
		}
	}
	set("secret-before")
	exported := e.export(false)
	const user = "auth_user = \"relay\"\n"
	with := func(password string) string {
		return strings.Replace(exported, user, user+"auth_password = \""+password+"\"\n", 1)
	}
	revision := w.State.AppliedIndex()
	set("secret-at-night")

	const conflict = ": auth_password (the old one) -> (the new one)"
	without := strings.Replace(exported, user, "", 1)
	removed := "[destination.two]\nhosts = [\"mail.two.test:25\"]\n"
	for name, c := range map[string]struct {
		file    string
		options *pb.ApplyConfigurationRequest_Options
	}{
		"the old one":        {with("secret-before"), &pb.ApplyConfigurationRequest_Options{}},
		"another one":        {with("secret-of-the-file"), &pb.ApplyConfigurationRequest_Options{}},
		"none":               {without, &pb.ApplyConfigurationRequest_Options{}},
		"no destination":     {removed, &pb.ApplyConfigurationRequest_Options{Prune: true, Revision: revision}},
		"before it is asked": {with("secret-before"), &pb.ApplyConfigurationRequest_Options{DryRun: true}},
	} {
		_, _, err := e.apply(c.file, c.options)
		text := fmt.Sprint(err, violations(err))
		if status.Code(err) != codes.Aborted || len(violations(err)) != 1 || !strings.Contains(text, conflict) ||
			!strings.Contains(text, "destination one was changed by local user ") {
			t.Errorf("%s: %s", name, text)
		}
		if strings.Contains(text, "secret") {
			t.Errorf("%s: it shows a password: %s", name, text)
		}
		want("secret-at-night")
	}

	// What leaves the password as it is, or sets the same, overwrites nothing.
	e.mustApply(strings.Replace(exported, "slots = 20", "slots = 7", 1), &pb.ApplyConfigurationRequest_Options{})
	want("secret-at-night")
	e.mustApply(with("secret-at-night"), &pb.ApplyConfigurationRequest_Options{Force: true})
	e.mustApply(with("secret-before"), &pb.ApplyConfigurationRequest_Options{Force: true})
	want("secret-before")
}

// What nobody has changed is no conflict, however long ago it was set: the revision of
// an export stays that of the last change, while the log before it is forgotten.
func TestConfigurationOlderThanTheLog(t *testing.T) {
	w := created(t, "cluster")
	w.Configure()
	e := connected(t, w)
	file := e.export(false)
	id := w.Accept(0, "s@x.test", "r@one.test")
	w.Claim(1, id, "one")
	w.Deliver(1, id, "one")
	w.Accept(-time.Hour, "s@x.test", "r@one.test")
	w.FoldAs(1, 40*24*time.Hour, &pb.Event{Kind: &pb.Event_HistoryPruned{HistoryPruned: &pb.HistoryPruned{
		Before: admintest.Now.Add(30 * time.Minute).UnixNano(),
	}}}, nil)
	if again := e.export(false); again != file {
		t.Fatalf("another export: %s", again)
	}
	if s := e.mustApply(file, &pb.ApplyConfigurationRequest_Options{DryRun: true}); s.Changed != 0 {
		t.Errorf("nothing differs: %v", s)
	}
	if s := e.mustApply(strings.Replace(file, "slots = 20", "slots = 7", 1), &pb.ApplyConfigurationRequest_Options{}); s.Changed != 1 {
		t.Errorf("%v", s)
	}
	// Now somebody has changed something since, and what it was isn't known any more.
	_, _, err := e.apply(file, &pb.ApplyConfigurationRequest_Options{})
	wantCode(t, err, codes.Aborted, "isn't kept so far back")
}

// A file from a node that is ahead is planned once this node has its revision: what
// was changed up to that isn't a change by others since.
func TestConfigurationOfANodeAhead(t *testing.T) {
	w := created(t, "cluster")
	w.Configure()
	w.RestUpkeep()
	e := connected(t, w)
	index := w.State.AppliedIndex()
	record, _ := w.State.Destination("one")
	ahead := proto.CloneOf(record.Config)
	ahead.Slots = 5
	w.ArriveLate(func() {
		w.Fold(&pb.Event{Kind: &pb.Event_DestinationSet{DestinationSet: &pb.DestinationSet{Destination: ahead}}}, nil)
	}, nil)
	file := strings.Replace(revised(e.export(true), index+1, "cluster"), "slots = 20", "slots = 7", 1)
	differences, s, err := e.apply(file, &pb.ApplyConfigurationRequest_Options{DryRun: true})
	if err != nil || s.Changed != 1 || len(differences) != 1 {
		t.Fatalf("%v %v %v %v", differences, s, err, violations(err))
	}
	if v := differences[0].Values; len(v) != 1 || v[0].Old != "5" || v[0].New != "7" {
		t.Errorf("%v", v)
	}
}

// A revision that this node hasn't got is no fault of the file while the node may be
// behind. Once it has all that was committed, it knows that there is none.
func TestConfigurationOfARevisionThatIsntHere(t *testing.T) {
	w := admintest.StartImpatient(t, time.Millisecond)
	create(w, "cluster")
	w.Configure()
	w.RestUpkeep()
	e := connected(t, w)
	text := strings.Replace(e.export(true), "slots = 20", "slots = 7", 1)
	later := w.State.AppliedIndex() + 1
	for name, c := range map[string]struct {
		file    string
		options *pb.ApplyConfigurationRequest_Options
	}{
		"of the file":       {revised(text, later, "cluster"), &pb.ApplyConfigurationRequest_Options{}},
		"to see":            {revised(text, later, "cluster"), &pb.ApplyConfigurationRequest_Options{DryRun: true}},
		"given":             {text, &pb.ApplyConfigurationRequest_Options{Revision: later}},
		"given for another": {revised(text, 1, "cluster"), &pb.ApplyConfigurationRequest_Options{Revision: later}},
	} {
		w.LoseQuorum(admintest.ErrNoQuorum)
		w.ArriveLate(nil, errors.New("no leader"))
		_, _, err := e.apply(c.file, c.options)
		want := "no quorum, or this node is behind: nothing was changed"
		if c.options.DryRun {
			want = fmt.Sprintf("up to %d, and revision %d is later; nothing was changed", later-1, later)
		}
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("%s, without a quorum: %v", name, err)
		}
		w.LoseQuorum(nil)
		w.ArriveLate(nil, nil)
		_, _, err = e.apply(c.file, c.options)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), fmt.Sprintf("revision %d isn't in this cluster's log, which ends at %d", later, later-1)) {
			t.Errorf("%s, with one: %v", name, err)
		}
	}
}

// revised is a file that was exported without a revision, of one.
func revised(file string, index uint64, cluster string) string {
	return fmt.Sprintf("revision = \"%d@%s\"\n%s", index, cluster, file)
}
