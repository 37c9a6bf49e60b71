package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/harness"
)

// tail is where the log of a cluster that was killed goes on.
type tail struct {
	index, term uint64
	// incarnation of a node that the state counts as up, with the highest
	// sequence that it has used.
	incarnation, sequence uint64
}

// perEntry is how many events share an entry; entryBytes is what a batch of a
// busy cluster comes to.
const (
	perEntry   = 1000
	entryBytes = 400 << 10
)

// appendEvents puts the same events behind the log of each node, as the first
// node would have proposed them. All nodes must be down.
func appendEvents(nodes []*harness.Node, count int, event func(int) (*pb.Event, []byte)) (err error) {
	var logs []*wal.WAL
	defer func() {
		for _, log := range logs {
			err = errors.Join(err, log.Close())
		}
	}()
	for _, n := range nodes {
		if n.Running() {
			return fmt.Errorf("node %s runs: its log is its own", n.Name)
		}
		log, err := wal.Open(filepath.Join(n.Data(), "raft", "wal"), wal.WithLogger(hclog.NewNullLogger()))
		if err != nil {
			return fmt.Errorf("log of node %s: %w", n.Name, err)
		}
		logs = append(logs, log)
	}
	if err := level(logs); err != nil {
		return err
	}
	incarnation, err := latestIncarnation(nodes[0])
	if err != nil {
		return err
	}
	from, err := readTail(logs[0], incarnation)
	if err != nil {
		return fmt.Errorf("log of node %s: %w", nodes[0].Name, err)
	}
	for i, log := range logs {
		if err := writeEvents(log, from, count, event); err != nil {
			return fmt.Errorf("log of node %s: %w", nodes[i].Name, err)
		}
	}
	return nil
}

// level gives each log what the longest has more, as the leader would have: the
// nodes were killed at work.
func level(logs []*wal.WAL) error {
	longest, end := logs[0], uint64(0)
	for _, log := range logs {
		last, err := log.LastIndex()
		if err != nil {
			return err
		}
		if last > end {
			longest, end = log, last
		}
	}
	for _, log := range logs {
		last, err := log.LastIndex()
		if err != nil {
			return err
		}
		var mine, other raft.Log
		if err := errors.Join(log.GetLog(last, &mine), longest.GetLog(last, &other)); err != nil {
			return err
		}
		if mine.Term != other.Term {
			return fmt.Errorf("entry %d has term %d in one log and %d in another", last, mine.Term, other.Term)
		}
		for index := last + 1; index <= end; index++ {
			var entry raft.Log
			if err := longest.GetLog(index, &entry); err != nil {
				return err
			}
			if err := log.StoreLog(&entry); err != nil {
				return err
			}
		}
	}
	return nil
}

// latestIncarnation is read from what a node has logged: the entry in which it
// came up may be truncated.
func latestIncarnation(n *harness.Node) (incarnation uint64, err error) {
	lines, err := os.ReadFile(filepath.Join(n.Dir, "log"))
	if err != nil {
		return 0, err
	}
	all := cameUp.FindAllSubmatch(lines, -1)
	if len(all) == 0 {
		return 0, fmt.Errorf("node %s never came up", n.Name)
	}
	return strconv.ParseUint(string(all[len(all)-1][1]), 16, 64)
}

var cameUp = regexp.MustCompile(`msg="is up".* incarnation=([0-9a-f]+)`)

func readTail(log *wal.WAL, incarnation uint64) (t tail, err error) {
	t.incarnation = incarnation
	begin, err := log.FirstIndex()
	if err != nil {
		return t, err
	}
	end, err := log.LastIndex()
	if err != nil {
		return t, err
	}
	for index := begin; index <= end; index++ {
		var entry raft.Log
		if err := log.GetLog(index, &entry); err != nil {
			return t, err
		}
		t.index, t.term = entry.Index, entry.Term
		if entry.Type != raft.LogCommand {
			continue
		}
		events, _, err := fsm.DecodeEntry(entry.Data)
		if err != nil {
			return t, err
		}
		for _, e := range events {
			if e.Incarnation == t.incarnation {
				t.sequence = max(t.sequence, e.Sequence)
			}
		}
	}
	return t, nil
}

func writeEvents(log *wal.WAL, at tail, count int, event func(int) (*pb.Event, []byte)) error {
	const together = 16 // entries in one write to the log
	var entries []*raft.Log
	var events []*pb.Event
	var payloads [][]byte
	size := 0
	seal := func() error {
		if len(events) == 0 {
			return nil
		}
		data, err := fsm.EncodeEntry(events, payloads)
		if err != nil {
			return err
		}
		at.index++
		entries = append(entries, &raft.Log{Index: at.index, Term: at.term, Type: raft.LogCommand, Data: data, AppendedAt: time.Now()})
		events, payloads, size = nil, nil, 0
		return nil
	}
	for n := range count {
		e, payload := event(n)
		at.sequence++
		// Earlier results aren't asked for again, as of a proposer that has them.
		e.Incarnation, e.Sequence, e.LowestOpen = at.incarnation, at.sequence, at.sequence
		events, payloads, size = append(events, e), append(payloads, payload), size+fsm.EncodedSize(e, payload)
		if len(events) < perEntry && size < entryBytes && n < count-1 {
			continue
		}
		if err := seal(); err != nil {
			return err
		}
		if len(entries) == together || n == count-1 {
			if err := log.StoreLogs(entries); err != nil {
				return err
			}
			entries = nil
		}
	}
	return nil
}
