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
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), fmt.Sprintf("up to %d, and revision %d is later; nothing was changed", later-1, later)) {
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
