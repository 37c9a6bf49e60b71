package harness_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/harness"
	"holdfast/test/load"
	"holdfast/test/sink"
)

// position is what `log tail --json` says of a row's place.
type position struct {
	Index uint64 `json:"index"`
	Row   uint32 `json:"row"`
	ID    string `json:"id"`
}

func byPlace(a, b position) int {
	return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Row, b.Row))
}

// While mail flows, the node that a tail follows is killed, which leads, and then
// the next one that it follows. It shows the whole history, each row once, in
// order. The queue as it was before all that is shown as it was, by a cluster that
// has truncated its raft log and was started anew.
func TestTailAndThePastSurviveKills(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	dir := shortDir(t)
	binary, err := harness.Build(ctx, dir)
	must(t, err)
	c := startNodes(ctx, t, harness.Config{Binary: binary, Dir: dir, Nodes: 3, TrailingBytes: 1 << 20, LogLevel: "debug"})
	server, err := sink.Start(sink.Config{IDHeader: load.HeaderID})
	must(t, err)
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()

	t.Log("a queue that waits, and its listing")
	must(t, route(ctx, c.Nodes[0], "127.0.0.1:1"))
	for i, n := range c.Nodes {
		send(ctx, t, fmt.Sprint("held", i), n.SMTP, 5, 30*time.Second)
	}
	recorded, at := steadyQueue(ctx, t, c.Nodes[0])

	leader, err := c.Leader(ctx)
	must(t, err)
	others := without(c, leader)
	follower := startTail(ctx, t, binary, filepath.Join(dir, "tail"), leader, others[0], others[1])
	must(t, route(ctx, others[0], server.Addr()))

	t.Log("killing the leader", leader.Name, "which is followed")
	done := make(chan *load.Report, 1)
	go func() {
		loader, err := load.New(load.Config{
			Addresses: smtp(c.Nodes), Sessions: 6, Run: "flow", Count: 600, Duration: time.Minute,
			Recipients: []string{"user@sink.test"}, Size: 8192,
		})
		if err != nil {
			t.Error(err)
			done <- nil
			return
		}
		report, err := loader.Run(ctx)
		if err != nil {
			t.Error(err)
		}
		done <- report
	}()
	must(t, follower.waitRows(ctx, 100))
	must(t, leader.Kill())
	seen := follower.count(t)
	must(t, follower.waitRows(ctx, seen+200))
	must(t, leader.Start())
	must(t, leader.WaitReady(ctx))
	t.Log("killing", others[0].Name, "which is followed now, or", leader.Name)
	must(t, others[0].Kill())
	report := <-done
	must(t, others[0].Start())
	must(t, c.WaitReady(ctx))
	if report.Count(load.Accepted) < 300 {
		t.Fatalf("%d messages accepted", report.Count(load.Accepted))
	}
	must(t, harness.Eventually(ctx, "an empty queue", func(ctx context.Context) error {
		var count harness.Count
		if err := leader.JSON(ctx, &count, "queue", "count"); err != nil {
			return err
		}
		if count.Pending > 0 { // what was under way at both that died is held, and stays so
			return fmt.Errorf("%+v", count)
		}
		return nil
	}))

	want := allHistory(ctx, t, leader)
	must(t, follower.waitRows(ctx, len(want)))
	got := follower.rows(t)
	if !slices.IsSortedFunc(got, byPlace) {
		t.Error("rows aren't in order")
	}
	if !slices.Equal(got, want) {
		t.Errorf("tail has %d rows, the log %d", len(got), len(want))
	}
	if notes := follower.notes(); !strings.Contains(notes, "going on at") {
		t.Errorf("the tail lost no node: %q", notes)
	}

	t.Log("the past, after a restart of all")
	output, err := os.ReadFile(filepath.Join(leader.Dir, "log"))
	must(t, err)
	if !bytes.Contains(output, []byte("compacting logs")) {
		t.Error("the raft log was never truncated")
	}
	for _, n := range c.Nodes {
		must(t, n.Kill())
	}
	for _, n := range c.Nodes {
		must(t, n.Start())
	}
	must(t, c.WaitReady(ctx))
	for _, n := range c.Nodes {
		then, _ := listQueue(ctx, t, n, at)
		if len(then) != len(recorded) {
			t.Fatalf("node %s lists %d messages, recorded were %d", n.Name, len(then), len(recorded))
		}
		for i := range then {
			if !proto.Equal(then[i], recorded[i]) {
				t.Errorf("node %s shows\n%v\nrecorded was\n%v", n.Name, then[i], recorded[i])
			}
		}
	}
}

// steadyQueue lists the queue when nothing has changed for the time of the
// listing, sorted by id, with where and when that was.
func steadyQueue(ctx context.Context, t *testing.T, n *harness.Node) (messages []*pb.Message, at *pb.PastPoint) {
	t.Helper()
	must(t, harness.Eventually(ctx, "a listing of a destination that is down", func(ctx context.Context) error {
		var now time.Time
		var before, after uint64
		now = time.Now()
		messages, before = listQueue(ctx, t, n, nil)
		_, after = listQueue(ctx, t, n, nil)
		at = &pb.PastPoint{Index: before, Time: timestamppb.New(now)}
		if before != after || len(messages) != 15 {
			return fmt.Errorf("index %d, then %d; %d messages", before, after, len(messages))
		}
		for _, m := range messages {
			if !strings.Contains(m.Recipients[0].Causes[0], "is down") {
				return fmt.Errorf("causes %v", m.Recipients[0].Causes)
			}
		}
		return nil
	}))
	return messages, at
}

func listQueue(ctx context.Context, t *testing.T, n *harness.Node, at *pb.PastPoint) ([]*pb.Message, uint64) {
	t.Helper()
	conn, err := n.Dial()
	must(t, err)
	defer func() { must(t, conn.Close()) }()
	r, err := pb.NewQueueServiceClient(conn).ListQueue(ctx, &pb.ListQueueRequest{PageSize: 1000, At: at})
	must(t, err)
	if r.NextPageToken != "" {
		t.Fatal("the queue doesn't fit a page")
	}
	slices.SortFunc(r.Messages, func(a, b *pb.Message) int { return cmp.Compare(a.Id, b.Id) })
	return r.Messages, r.Index
}

// allHistory reads every row of every message, in order.
func allHistory(ctx context.Context, t *testing.T, n *harness.Node) []position {
	t.Helper()
	conn, err := n.Dial()
	must(t, err)
	defer func() { must(t, conn.Close()) }()
	log := pb.NewLogServiceClient(conn)
	var rows []position
	for token := ""; ; {
		found, err := log.SearchLog(ctx, &pb.SearchLogRequest{PageSize: 1000, PageToken: token})
		must(t, err)
		for _, m := range found.Messages {
			one, err := log.GetLog(ctx, &pb.GetLogRequest{Id: m.Id, PageSize: 1000})
			must(t, err)
			for _, h := range one.History {
				rows = append(rows, position{Index: h.Index, Row: h.Row, ID: m.Id})
			}
		}
		if token = found.NextPageToken; token == "" {
			slices.SortFunc(rows, byPlace)
			return rows
		}
	}
}

// tail is a running `holdfast log tail` from the first index on.
type tail struct {
	output string
	stderr bytes.Buffer
	end    func()
}

func startTail(ctx context.Context, t *testing.T, binary, output string, nodes ...*harness.Node) *tail {
	t.Helper()
	var addresses []string
	for _, n := range nodes {
		addresses = append(addresses, n.Socket())
	}
	file, err := os.Create(output)
	must(t, err)
	ctx, cancel := context.WithCancel(ctx)
	command := exec.CommandContext(ctx, binary, "log", "tail", "--from", "1", "--json", "--addr", strings.Join(addresses, ","))
	f := &tail{output: output}
	command.Stdout, command.Stderr = file, &f.stderr
	must(t, command.Start())
	f.end = func() {
		cancel()
		_ = command.Wait() // killed
		must(t, file.Close())
	}
	t.Cleanup(func() {
		if f.end != nil {
			f.end()
		}
	})
	return f
}

func (f *tail) rows(t *testing.T) []position {
	t.Helper()
	content, err := os.ReadFile(f.output)
	must(t, err)
	var rows []position
	for line := range bytes.Lines(content) {
		var row position
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // being written
		}
		must(t, json.Unmarshal(line, &row))
		rows = append(rows, row)
	}
	return rows
}

func (f *tail) count(t *testing.T) int { return len(f.rows(t)) }

func (f *tail) waitRows(ctx context.Context, want int) error {
	return harness.Eventually(ctx, fmt.Sprint(want, " rows of the tail"), func(context.Context) error {
		content, err := os.ReadFile(f.output)
		if got := bytes.Count(content, []byte("\n")); err != nil || got < want {
			return fmt.Errorf("%d rows, %w", got, err)
		}
		return nil
	})
}

// notes ends the tail and gives what it said of itself.
func (f *tail) notes() string {
	f.end()
	f.end = nil
	return f.stderr.String()
}
