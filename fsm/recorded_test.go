package fsm

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "holdfast/proto/holdfast/v1"
)

// The files in testdata were written by version 1 of the state machine and stay
// as they are: a node that is updated folds such logs, opens such checkpoints,
// and must come to the same state as one that isn't. What a later version adds
// is recorded beside them, with HOLDFAST_RECORD=2 go test -run Recorded ./fsm;
// 1-kinds has the kinds and the outcomes that the scripts of the first lacked,
// 1-accounts also accounts, 1-stopped a stopped operation, a postmaster, and the kinds that
// all before lacked, 1-recipients lists of recipients and verdicts. While nothing is
// released, what the logs lead to may change: HOLDFAST_RECORD=again writes that anew,
// and leaves the logs as they are.
func TestRecordedLogs(t *testing.T) {
	if version, ok := os.LookupEnv("HOLDFAST_RECORD"); ok && version != recordAgain {
		record(t, version)
	}
	versions := recordedVersions(t)
	for version := 1; version <= Version; version++ {
		if !slices.Contains(versions, fmt.Sprint(version)) {
			t.Errorf("version %d isn't recorded", version)
		}
	}
	for _, version := range versions {
		t.Run("version "+version, func(t *testing.T) {
			entries := readLog(t, recordedFile(version, "log.gz"))
			want, err := os.ReadFile(recordedFile(version, "digests"))
			if err != nil {
				t.Fatal(err)
			}
			state := openState(t, crashDir, vfs.NewMem())
			fold(t, state, entries...)
			if os.Getenv("HOLDFAST_RECORD") == recordAgain {
				recordOutcome(t, version, entries, state, os.O_TRUNC)
				return
			}
			if got := digestText(t, state); got != string(want) {
				t.Errorf("the log leads to\n%s, recorded was\n%s", got, want)
			}
			checkState(t, state)

			restarted := openState(t, unpackState(t, recordedFile(version, "state.tar.gz")), nil)
			if index := restarted.AppliedIndex(); index == 0 || index >= entries[len(entries)-1].Index {
				t.Errorf("the recorded state is of index %d", index)
			}
			fold(t, restarted, entries...) // raft hands over what is applied already, too
			if got := digestText(t, restarted); got != string(want) {
				t.Errorf("the state leads to\n%s, recorded was\n%s", got, want)
			}
			checkState(t, restarted)

			follower := openState(t, crashDir, vfs.NewMem())
			restoreFile(t, follower, entries[len(entries)-1], recordedFile(version, "checkpoint.gz"))
			if got := digestText(t, follower); got != string(want) {
				t.Errorf("the checkpoint is of\n%s, recorded was\n%s", got, want)
			}
			checkState(t, follower)
		})
	}
}

// A log is kept of every kind.
func TestRecordedLogsHaveEveryKind(t *testing.T) {
	recorded := map[protoreflect.Name]bool{}
	for _, version := range recordedVersions(t) {
		maps.Copy(recorded, kindsIn(readLog(t, recordedFile(version, "log.gz"))))
	}
	kinds := (&pb.Event{}).ProtoReflect().Descriptor().Oneofs().ByName("kind").Fields()
	for i := range kinds.Len() {
		if kind := kinds.Get(i).Name(); !recorded[kind] {
			t.Errorf("%s is in no recorded log", kind)
		}
	}
}

func kindsIn(entries []*raft.Log) map[protoreflect.Name]bool {
	kinds := map[protoreflect.Name]bool{}
	for _, entry := range entries {
		events, _, err := DecodeEntry(entry.Data)
		if err != nil {
			continue // of raft
		}
		for _, event := range events {
			kinds[kindOf(event)] = true
		}
	}
	return kinds
}

func recordedVersions(t *testing.T) []string {
	logs, err := filepath.Glob(recordedFile("*", "log.gz"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("nothing is recorded: %v", err)
	}
	for i, log := range logs {
		logs[i] = strings.TrimSuffix(strings.TrimPrefix(filepath.Base(log), "v"), ".log.gz")
	}
	return logs
}

func recordedFile(version, kind string) string { return "testdata/v" + version + "." + kind }

func digestText(t *testing.T, s *State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "index %d\n", s.AppliedIndex())
	for _, d := range digestsOf(t, s) {
		if d.Rows == 0 {
			continue // a family that the recorded version didn't have, perhaps
		}
		fmt.Fprintf(&b, "%s %016x of %d rows\n", d.Family, d.Sum, d.Rows)
	}
	return b.String()
}

const recordAgain = "again"

// record writes a log and what it leads to; it replaces nothing.
func record(t *testing.T, version string) {
	var entries []*raft.Log
	var state *State
	// What the earlier logs lack.
	complete := func() bool {
		rows := map[string]uint64{}
		for _, d := range digestsOf(t, state) {
			rows[d.Family] = d.Rows
		}
		return rows["listed"] > 1 && rows["verified"] > 2
	}
	for seed := uint64(1); state == nil || !complete(); seed++ {
		script := newScript(t, rand.New(rand.NewPCG(seed, 1)).IntN)
		entries = script.setup()
		for range 150 {
			entries = append(entries, script.entry())
		}
		state = openState(t, crashDir, vfs.NewMem())
		fold(t, state, entries...)
	}
	var log bytes.Buffer
	for _, e := range entries {
		head := binary.BigEndian.AppendUint64(nil, e.Index)
		head = binary.BigEndian.AppendUint64(head, e.Term)
		head = append(head, byte(e.Type))
		log.Write(binary.BigEndian.AppendUint32(head, uint32(len(e.Data))))
		log.Write(e.Data)
	}
	writeRecorded(t, version, "log.gz", zipped(t, log.Bytes()), os.O_EXCL)
	recordOutcome(t, version, entries, state, os.O_EXCL)
}

// recordOutcome writes digests, a checkpoint and a state of half a log.
func recordOutcome(t *testing.T, version string, entries []*raft.Log, state *State, flag int) {
	_, stream, err := state.Snapshots().Open(liveID)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	checkpoint, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	writeRecorded(t, version, "digests", []byte(digestText(t, state)), flag)
	writeRecorded(t, version, "checkpoint.gz", zipped(t, checkpoint), flag)
	writeRecorded(t, version, "state.tar.gz", zipped(t, recordState(t, entries)), flag)
}

func writeRecorded(t *testing.T, version, kind string, data []byte, flag int) {
	file, err := os.OpenFile(recordedFile(version, kind), os.O_CREATE|os.O_WRONLY|flag, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.Write(data)
	if err := errorOf(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

func zipped(t *testing.T, data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	if err := errorOf(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unzipped(t *testing.T, path string) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	data, err = io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readLog(t *testing.T, path string) []*raft.Log {
	r := bytes.NewReader(unzipped(t, path))
	var entries []*raft.Log
	for {
		var head [21]byte
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) {
			return entries
		} else if err != nil {
			t.Fatal(err)
		}
		e := &raft.Log{
			Index: binary.BigEndian.Uint64(head[:]), Term: binary.BigEndian.Uint64(head[8:]),
			Type: raft.LogType(head[16]), Data: make([]byte, binary.BigEndian.Uint32(head[17:])),
		}
		if _, err := io.ReadFull(r, e.Data); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
}

func restoreFile(t *testing.T, s *State, last *raft.Log, path string) {
	sink, err := s.Snapshots().Create(raft.SnapshotVersionMax, last.Index, last.Term, raft.Configuration{}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sink.Write(unzipped(t, path))
	if err := errorOf(err, sink.Close()); err != nil {
		t.Fatal(err)
	}
	_, stream, err := s.Snapshots().Open(sink.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if err := s.Restore(stream); err != nil {
		t.Fatal(err)
	}
}
