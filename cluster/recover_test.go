package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// survivorDir is the data folder of node a of a cluster of three, with a log that
// the state has the first entries of only, as after kill -9.
func survivorDir(t *testing.T, kind string) string {
	t.Helper()
	dir := t.TempDir()
	member, err := NewFirstMember("a", kind, "127.0.0.1:7400", time.Unix(1_700_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := member.WriteLog(dir, 3, quiet(), time.Now); err != nil {
		t.Fatal(err)
	}
	if err := member.WriteIdentity(dir); err != nil {
		t.Fatal(err)
	}
	stores, err := openStores(filepath.Join(dir, "raft"), kind, smallSegment, newHCLog(quiet(), time.Now))
	if err != nil {
		t.Fatal(err)
	}
	servers := []raft.Server{member.Server, {ID: "b.1", Address: "b.1@127.0.0.1:1"}, {ID: "c.1", Address: "c.1@127.0.0.1:2"}}
	log := []*raft.Log{
		{Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(raft.Configuration{Servers: servers})},
		{Type: raft.LogCommand, Data: eventEntry(t, &pb.Event{Kind: &pb.Event_ClusterCreated{ClusterCreated: &pb.ClusterCreated{ClusterId: member.ClusterID}}})},
		{Type: raft.LogCommand, Data: eventEntry(t, &pb.Event{Incarnation: 7, Sequence: 1, Kind: &pb.Event_NodeUp{NodeUp: &pb.NodeUp{Node: "a", Incarnation: 7}}})},
		{Type: raft.LogCommand, Data: eventEntry(t, &pb.Event{Incarnation: 7, Sequence: 2, Kind: &pb.Event_DestinationSet{DestinationSet: &pb.DestinationSet{
			Destination: &pb.DestinationConfig{Name: "kept", Hosts: []*pb.DestinationConfig_Host{{Address: "127.0.0.1:25"}}, Slots: 1, Tls: "none"},
		}}})},
		{Type: raft.LogCommand, Data: eventEntry(t, &pb.Event{Incarnation: 7, Sequence: 3, Kind: &pb.Event_DomainSet{DomainSet: &pb.DomainSet{
			Domain: &pb.DomainConfig{Name: "example.test", Destination: "kept"},
		}}})},
		{Type: raft.LogCommand, Data: eventEntry(t, &pb.Event{Incarnation: 7, Sequence: 4, Kind: &pb.Event_MessageAccepted{MessageAccepted: &pb.MessageAccepted{
			MessageId: survivingID[:], Envelope: &pb.Envelope{From: "sender@elsewhere.test"}, Content: &pb.Content{},
			Recipients: []*pb.Recipient{{Address: "one@example.test"}},
		}}})},
		{Type: raft.LogNoop},
	}
	for i, entry := range log {
		entry.Index, entry.Term = uint64(i+1), 3
	}
	if err := stores.log.StoreLogs(log); err != nil {
		t.Fatal(err)
	}
	state := openStateAt(t, filepath.Join(dir, "state"))
	if err := state.Redo(1, 2, stores.log.GetLog); err != nil {
		t.Fatal(err)
	}
	if err := state.Close(); err != nil {
		t.Fatal(err)
	}
	if err := stores.close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// survivingID is a message that only the survivor's log has.
var survivingID = relay.MessageID{1, 2, 3}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func eventEntry(t *testing.T, event *pb.Event) []byte {
	t.Helper()
	event.Time = 1_700_000_000e9
	data, err := fsm.EncodeEntry([]*pb.Event{event}, [][]byte{nil})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func openStateAt(t *testing.T, dir string) *fsm.State {
	t.Helper()
	state, err := fsm.Open(fsm.Config{
		Dir: dir, Node: "a", Logger: quiet(), Metrics: prometheus.NewRegistry(),
		Fatal: func(err error) { t.Errorf("fatal: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func openSurvivorAt(t *testing.T, dir string) *Survivor {
	t.Helper()
	s, err := OpenSurvivor(dir, func(dir, _ string) (*fsm.State, error) { return openStateAt(t, dir), nil }, quiet(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Killed after any of its steps, Recover run again comes to the same: everything
// of the log is in the state, and the node is the only voter of a new cluster.
func TestRecoverKilledAfterEachStep(t *testing.T) {
	for _, kind := range []string{LogStoreWAL, LogStoreBoltDB} {
		for after := 0; ; after++ {
			dir := survivorDir(t, kind)
			s := openSurvivorAt(t, dir)
			if s.LastIndex != 7 || s.LastTerm != 3 || strings.Join(s.VoterNames(), "") != "abc" {
				t.Fatalf("survivor %+v with voters %v", s, s.VoterNames())
			}
			old := s.Cluster
			steps := s.steps(t.Context(), "01FIRST", time.Unix(1_700_000_100, 0), "holdfast cluster recover")
			if after > len(steps) {
				break
			}
			for _, step := range steps[:after] {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			// What a kill leaves is what the files have at this moment.
			killed := t.TempDir()
			copyFolder(t, dir, killed)
			if err := CheckFinished(killed); (err != nil) != (after > 0 && after < len(steps)) {
				t.Errorf("%s, killed after %d steps, a start says %v", kind, after, err)
			}
			again := openSurvivorAt(t, killed)
			id, err := again.Recover(t.Context(), time.Unix(1_700_000_200, 0), "holdfast cluster recover")
			if err != nil {
				t.Fatalf("%s, killed after %d steps: %v", kind, after, err)
			}
			checkRecovered(t, fmt.Sprintf("%s, killed after %d steps", kind, after), killed, again, id, old)
		}
	}
}

func checkRecovered(t *testing.T, what, dir string, s *Survivor, id, old string) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := CheckFinished(dir); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	identity, _, err := readIdentity(dir)
	if err != nil || identity.ClusterID != id || id == old {
		t.Errorf("%s: node.json says %+v, recovered as %s from %s: %v", what, identity, id, old, err)
	}
	once := openSurvivorAt(t, dir)
	if last, err := once.stores.log.LastIndex(); err != nil || last != 0 {
		t.Errorf("%s: the old log is there up to %d: %v", what, last, err)
	}
	if term, err := once.stores.term(); err != nil || term <= 3 || once.LastTerm > term {
		t.Errorf("%s: term %d, last entry of %d: %v", what, term, once.LastTerm, err)
	}
	if once.state.ClusterID() != id || strings.Join(once.VoterNames(), "") != "a" {
		t.Errorf("%s: state of %s with voters %v", what, once.state.ClusterID(), once.VoterNames())
	}
	if _, ok := once.state.Destination("kept"); !ok {
		t.Errorf("%s: what was in the log only is lost", what)
	}
	checkInDoubt(t, what, once.state)
	if err := once.Close(); err != nil {
		t.Fatal(err)
	}
}

// checkInDoubt: the lost nodes may have delivered what is queued here. A recovery
// that was done again has marked it once all the same.
func checkInDoubt(t *testing.T, what string, state *fsm.State) {
	t.Helper()
	view, err := state.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	r, err := view.Recipient(survivingID, 0)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if r.InDoubt != 1 || r.State != pb.RecipientState_RECIPIENT_STATE_PENDING {
		t.Errorf("%s: what the lost nodes may have delivered is sent again unmarked: %v", what, r)
	}
}

// A folder that isn't whole, or isn't of a cluster, is refused.
func TestSurvivorIsRefused(t *testing.T) {
	open := func(dir, _ string) (*fsm.State, error) { return openStateAt(t, dir), nil }
	for what, spoil := range map[string]func(dir string) error{
		"no node.json": func(dir string) error { return os.Remove(identityPath(dir)) },
		"belongs to":   func(dir string) error { return os.RemoveAll(filepath.Join(dir, "raft", "wal")) },
		"are lost":     func(dir string) error { return emptyLogUpTo(dir, 4) },
	} {
		dir := survivorDir(t, LogStoreWAL)
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		s, err := OpenSurvivor(dir, open, quiet(), time.Now)
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: opened as %+v, %v", what, s, err)
		}
	}
}

// emptyLogUpTo cuts the beginning of the log off.
func emptyLogUpTo(dir string, last uint64) error {
	stores, err := openStores(filepath.Join(dir, "raft"), LogStoreWAL, smallSegment, newHCLog(quiet(), time.Now))
	if err != nil {
		return err
	}
	if err := stores.log.DeleteRange(1, last); err != nil {
		return err
	}
	return stores.close()
}

// copyFolder copies what the files have now, as a kill leaves it: anew while the
// database makes and deletes files meanwhile.
func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	eventually(t, "a copy of a folder at rest", func() bool {
		must(t, os.RemoveAll(to))
		before := listFolder(t, from)
		err := copyOnce(from, to)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return err == nil && slices.Equal(before, listFolder(t, from))
	})
}

// listFolder lists the files below a folder with their sizes.
func listFolder(t *testing.T, dir string) (files []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				files = append(files, fmt.Sprint(path, info.Size()))
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the next list will be another one
		}
		return err
	}))
	return files
}

func copyOnce(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		return err
	}
	return target.Close()
}
