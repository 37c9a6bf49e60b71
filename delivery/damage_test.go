package delivery

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/sink"
)

// disk is a node's, which can be told that a read of a body fails.
type disk struct {
	vfs.FS
	fails atomic.Int64 // reads of bodies
}

func (d *disk) String() string { return "disk" }

func (d *disk) MaybeError(op errorfs.Op) error {
	if op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".blob") && d.fails.Add(-1) >= 0 {
		return fmt.Errorf("read %s: %w", path.Base(op.Path), syscall.EMFILE)
	}
	return nil
}

// flip changes one bit of the file that has some bytes.
func (d *disk) flip(of []byte) error {
	const dir = "state/gen-1"
	names, err := d.List(dir)
	for _, name := range names {
		var all []byte
		file, openErr := d.OpenReadWrite(path.Join(dir, name), vfs.WriteCategoryUnspecified)
		if openErr != nil {
			return openErr
		}
		all, err = io.ReadAll(file)
		if at := bytes.Index(all, of); err == nil && at >= 0 {
			_, err = file.WriteAt([]byte{all[at] ^ 1}, int64(at))
			return errors.Join(err, file.Close())
		}
		err = errors.Join(err, file.Close())
	}
	return errors.Join(err, errors.New("no file has the bytes"))
}

// reopen has the node read its state from its disk, after what happens to that meanwhile.
func (n *node) reopen(meanwhile func(*disk) error) {
	n.w.t.Helper()
	n.stop()
	must(n.w.t, n.state.Close())
	must(n.w.t, meanwhile(n.disk))
	before := n.state
	n.state = n.open()
	n.w.log.mu.Lock()
	defer n.w.log.mu.Unlock()
	for i, state := range n.w.log.states {
		if state == before {
			n.w.log.states[i] = n.state
		}
	}
}

// incompressible is text that files have as it is.
func incompressible(seed byte, size int) string {
	random := make([]byte, size*3/4)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(random) // never fails
	return base64.RawStdEncoding.EncodeToString(random) + "\r\n"
}

// A body that the disk doesn't give back as it was ends like any other: its sender gets a
// report without it, whoever ends it, and the node goes on.
func TestReportOnWhatTheDiskHasDamaged(t *testing.T) {
	for who, end := range map[string]func(w *world, id relay.MessageID){
		"the host": func(*world, relay.MessageID) {},
		"an operator": func(w *world, id relay.MessageID) {
			w.must(w.any(), &pb.Event{Kind: &pb.Event_Operated{Operated: &pb.Operated{
				Operation: &pb.Operation{Kind: pb.Operation_KIND_BOUNCE, By: "ann"},
				Targets:   []*pb.Target{{MessageId: id[:], Recipients: []uint32{0}}},
			}}}, nil)
		},
		"its age": func(w *world, _ relay.MessageID) { w.clock.advance(6 * 24 * time.Hour) },
	} {
		t.Run("ended by "+who, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a")
			w.timing.Expire = 20 * time.Millisecond
			// Without CHUNKING nobody reads the body before RCPT is answered.
			s := w.sink(sink.Config{Offer: []string{"PIPELINING"}})
			s.SetAnswer(sink.On("RCPT", sink.Reply{Code: 550, Text: "5.7.1 not wanted"}))
			origin := w.sink(sink.Config{})
			w.route("example.test", "dest", 5, s.Addr())
			w.route("origin.test", "home", 5, origin.Addr())
			text := incompressible(1, 5000)
			id := w.acceptBody(testSender, text, "one@example.test")
			n := w.nodes["a"]
			n.reopen(func(d *disk) error { return d.flip([]byte(text[2000:2020])) })
			end(w, id)
			n.run()
			w.awaitState(id, 0, pb.RecipientState_RECIPIENT_STATE_BOUNCED)
			must(t, origin.Wait(w.ctx, func(all []sink.Message) bool { return len(all) == 1 }))
			report := string(origin.Messages()[0].Data)
			if !strings.Contains(report, "one@example.test") || strings.Contains(report, "X-Test-Id:") {
				t.Errorf("report:\n%s", report)
			}
		})
	}
}

// One message that can't be read now keeps none behind it from being warned of.
func TestWarningsBehindOneThatFails(t *testing.T) {
	w := newWorld(t, "a")
	w.route("example.test", "dest", 5, "127.0.0.1:1")
	w.must(w.any(), &pb.Event{Kind: &pb.Event_PolicySet{PolicySet: &pb.PolicySet{Policy: fsm.PolicyConfig(relay.Policy{
		Name: "warns", Retention: 48 * time.Hour, WarnAfter: 4 * time.Hour,
		Phases: []relay.RetryPhase{{Until: 48 * time.Hour, Every: time.Hour, Factor: 1}},
	})}}}, nil)
	w.follow("example.test", "dest", "warns")
	w.route("origin.test", "home", 5, "127.0.0.1:1")
	for range 3 {
		w.acceptBody(testSender, incompressible(1, 5000), "one@example.test")
	}
	n := w.nodes["a"]
	n.reopen(func(d *disk) error { d.fails.Store(1); return nil })
	w.clock.advance(24 * time.Hour)
	scheduler, err := New(n.config())
	must(t, err)
	scheduler.outcomes = w.ctx
	for round, want := range []int{2, 3} {
		must(t, scheduler.warnDomain(w.ctx, "example.test"))
		if n := w.log.count(func(e *pb.Event) bool { return e.GetDelayWarned() != nil }); n != want {
			t.Errorf("after round %d %d are warned of, want %d", round, n, want)
		}
	}
	if !strings.Contains(w.logs.String(), "too many open files") {
		t.Errorf("log:\n%s", w.logs.String())
	}
}
