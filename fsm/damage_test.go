package fsm

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// A byte that changed on the disk is found by Pebble's checksum before anybody compares
// the body with its own. It is a body that can't be read like any other, of this message
// alone, and the node goes on.
func TestByteFlippedBelowTheDatabase(t *testing.T) {
	for name, size := range map[string]int{"in a table": 4000, "in a blob file": 5 << 10} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewMem()
			w := worldOf(t, mustOpen(t, crashDir, disk))
			w.up("a", 1, 0)
			w.configure(1)
			random := rand.NewChaCha8([32]byte{byte(size)})
			var ids [3]relay.MessageID
			var bodies [3][]byte
			for i := range ids {
				bodies[i] = make([]byte, size)
				_, _ = random.Read(bodies[i]) // never fails
				ids[i] = w.newID()
				w.must(1, accepted(ids[i], bodies[i], "sender@elsewhere.test", "one@example.test"), bodies[i])
			}
			if err := w.state.Close(); err != nil {
				t.Fatal(err)
			}
			flipOnDisk(t, disk, bodies[1][size/2:][:32])

			state := openState(t, crashDir, disk)
			for i, id := range ids {
				body, _, err := state.Body(id)
				var got []byte
				if err == nil {
					got, err = io.ReadAll(body)
					err = errors.Join(err, body.Close())
				}
				switch {
				case i != 1 && (err != nil || !bytes.Equal(got, bodies[i])):
					t.Errorf("body %d: %d bytes, %v", i, len(got), err)
				case i == 1 && (!errors.Is(err, ErrBody) || !pebble.IsCorruptionError(err)):
					t.Errorf("the damaged body: %v", err)
				}
			}
			if check := checkRows(t, state); len(check.Damages) != 1 || check.Damages[0].Family != "content" {
				t.Errorf("damages: %v", check.Damages)
			}
		})
	}
}

// Pebble reads a row that is damaged in a blob file as an empty one, and says so later:
// nobody goes on with that, Apply least of all.
func TestDamagedRowIsNoEmptyRow(t *testing.T) {
	disk := vfs.NewMem()
	w := worldOf(t, mustOpen(t, crashDir, disk))
	w.up("a", 1, 0)
	w.configure(1)
	id := w.accept(1, "one@example.test")
	random := make([]byte, maxOperationText/4*3-10)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(random)       // never fails
	reason := base64.RawStdEncoding.EncodeToString(random) // as it is also on the disk
	w.must(1, operated(&pb.Operation{Kind: pb.Operation_KIND_HOLD, By: "ann", Reason: reason}, id, 0), nil)
	if err := w.state.Close(); err != nil {
		t.Fatal(err)
	}
	flipOnDisk(t, disk, []byte(reason[1000:1020]))

	var fatal []error
	cfg := stateConfig(t, crashDir, disk)
	cfg.Fatal = func(err error) { fatal = append(fatal, err) }
	state, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	view, err := state.View()
	if err != nil {
		t.Fatal(err)
	}
	if record, err := view.Recipient(id, 0); !pebble.IsCorruptionError(err) {
		t.Errorf("read as %v: %v", record, err)
	}
	if err := view.Close(); err != nil {
		t.Error(err)
	}
	w.state = state
	release := w.header(1, operated(&pb.Operation{Kind: pb.Operation_KIND_RELEASE, By: "ann"}, id, 0))
	if _, failed := state.Apply(w.entry([]*pb.Event{release}, [][]byte{nil})).(error); !failed || len(fatal) != 1 {
		t.Errorf("the node goes on with it: %v", fatal)
	}
	t.Logf("close: %v", state.Close())
}

// flipOnDisk changes one bit wherever some bytes are.
func flipOnDisk(t *testing.T, disk vfs.FS, of []byte) {
	t.Helper()
	dir, flipped := disk.PathJoin(crashDir, generationName(1)), 0
	names, err := disk.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		file, err := disk.OpenReadWrite(disk.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(file)
		for at := bytes.Index(all, of); err == nil && at >= 0; at = bytes.Index(all, of) {
			all[at] ^= 1
			_, err = file.WriteAt(all[at:at+1], int64(at))
			flipped++
		}
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if flipped == 0 {
		t.Fatal("no file has the bytes")
	}
}
