package fsm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// rowsAtOnce is how many rows, and bytesAtOnce how many bytes of bodies, are
// read between two calls of a check's step.
const (
	rowsAtOnce  = 1024
	bytesAtOnce = 1 << 20
)

// CheckRows reads every replicated row and compares each family with the digest
// that Apply has kept of it: a row that changed by itself on this node's disk is
// in no other node's way, and the digests alone don't show it. Bodies are read
// in full. Each family is read as of one index, so nothing has to stand still.
//
// step is called with what was read since the last call, and may pause; its
// error ends the check. at is the time of the result, nanoseconds since 1970.
func (s *State) CheckRows(ctx context.Context, at func() int64, step func(rows, bytes int) error) (*pb.RowCheck, error) {
	check, found := &pb.RowCheck{}, s.unreadable.Load()
	for _, f := range replicated {
		err := s.checkFamily(ctx, f.family, f.name, check, step)
		if err != nil {
			return nil, err
		}
	}
	check.Time = at()
	s.rowCheck.Store(check)
	s.unreadable.CompareAndSwap(found, nil) // what was found meanwhile it may have passed before
	return proto.Clone(check).(*pb.RowCheck), nil
}

// errBudget ends a quick check.
var errBudget = errors.New("enough was read")

// QuickCheck reads as many families as a number of bytes goes, those with the
// fewest rows first and bodies last. The others it lists as unread; of what it
// didn't read to the end it says nothing.
func (s *State) QuickCheck(ctx context.Context, at func() int64, budget int) (*pb.RowCheck, error) {
	view, err := s.View()
	if err != nil {
		return nil, err
	}
	order := slices.Clone(replicated)
	slices.SortStableFunc(order, func(a, b struct {
		family family
		name   string
	}) int {
		return cmp.Or(cmp.Compare(btoi(a.family == famContent), btoi(b.family == famContent)),
			cmp.Compare(view.digest(a.name).rows, view.digest(b.name).rows))
	})
	if err := view.Close(); err != nil {
		return nil, err
	}
	check := &pb.RowCheck{}
	for _, f := range order {
		err := errBudget
		if budget > 0 {
			err = s.checkFamily(ctx, f.family, f.name, check, func(_, bytes int) error {
				if budget -= bytes; budget <= 0 {
					return errBudget
				}
				return nil
			})
		}
		if errors.Is(err, errBudget) {
			check.Unread = append(check.Unread, f.name)
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(check.Unread)
	check.Time = at()
	return check, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *State) checkFamily(ctx context.Context, f family, name string, check *pb.RowCheck, step func(rows, bytes int) error) error {
	view, err := s.View()
	if err != nil {
		return err
	}
	defer view.Close()
	damage := func(format string, args ...any) {
		check.Damages = append(check.Damages, &pb.RowCheck_Damage{Family: name, Text: fmt.Sprintf(format, args...)})
	}
	count := rowCount{ctx: ctx, step: step}
	readErr := scan(view.snap, []byte{byte(f)}, count.add)
	if count.stopped != nil {
		return count.stopped
	}
	check.Index = view.Index()
	check.Rows += count.digest.rows
	kept := view.digest(name)
	switch {
	case readErr != nil:
		damage("can't be read: %v", readErr)
	case count.digest.rows != kept.rows:
		damage("has %d rows, %d were written", count.digest.rows, kept.rows)
	case count.digest.sum != kept.sum:
		damage("a row isn't what was written: its %d rows come to %016x, written were %016x", kept.rows, count.digest.sum, kept.sum)
	}
	return nil
}

// digest is what Apply kept of a family.
func (v *View) digest(family string) digest {
	for _, d := range v.applied.Digests {
		if d.Family == family {
			return digest{sum: d.Sum, rows: d.Rows}
		}
	}
	return digest{}
}

// rowCount sums up the rows that a scan hands it.
type rowCount struct {
	ctx         context.Context
	step        func(rows, bytes int) error
	digest      digest
	rows, bytes int   // since the last step
	stopped     error // by ctx or step, not by the rows
}

func (c *rowCount) add(key, value []byte) error {
	if family(key[0]) == famContent {
		c.digest.sum += contentHash(key, uint32(len(value)), crc32.Checksum(value, castagnoli))
	} else {
		c.digest.sum += rowHash(key, value)
	}
	c.digest.rows++
	c.rows++
	c.bytes += len(key) + len(value)
	if c.rows < rowsAtOnce && c.bytes < bytesAtOnce {
		return nil
	}
	if c.stopped = c.ctx.Err(); c.stopped == nil {
		c.stopped = c.step(c.rows, c.bytes)
	}
	c.rows, c.bytes = 0, 0
	return c.stopped
}
