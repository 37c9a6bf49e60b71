package fsm

import (
	"crypto/sha256"
	"io"

	pb "holdfast/proto/holdfast/v1"
)

// Saving is a snapshot on its way out. Close it: the checkpoint behind it goes then.
type Saving struct {
	io.ReadCloser
	Header *pb.SnapshotHeader
	Size   int64 // of the whole file

	state *State
}

// Close ends it, read to its end or not.
func (s *Saving) Close() error {
	err := s.ReadCloser.Close()
	s.state.saving.Store(false)
	return err
}

// Save begins a snapshot of the state as it is at one index, or fails with
// ErrSaving while another one is on its way. It needs no room beside links to the
// database's files, which keep those from being deleted until the end, and no
// more memory than a few buffers. The header says who saves it and when; the rest
// of it is filled in.
func (s *State) Save(header *pb.SnapshotHeader) (*Saving, error) {
	if !s.saving.CompareAndSwap(false, true) {
		return nil, ErrSaving
	}
	saving, err := s.save(header)
	if err != nil {
		s.saving.Store(false)
	}
	return saving, err
}

func (s *State) save(header *pb.SnapshotHeader) (*Saving, error) {
	c, err := s.takeCheckpoint()
	if err != nil {
		return nil, err
	}
	header.Version, header.ClusterId = c.applied.Version, c.applied.ClusterId
	header.Index, header.Term, header.Digests = c.applied.Index, c.applied.Term, c.applied.Digests
	header.Counts = (&View{tables: c.tables}).Counters()
	header.Size = uint64(streamSize(c.files))
	head := snapshotHead(header)
	return &Saving{
		state: s, Header: header, Size: snapshotSize(head, header),
		ReadCloser: s.stream(c, func(w io.Writer) error {
			sum := sha256.New()
			all := io.MultiWriter(w, sum)
			if _, err := all.Write(head); err != nil {
				return err
			}
			if err := sendFiles(all, s.cfg.FS, c.dir, c.files); err != nil {
				return err
			}
			_, err := w.Write(sum.Sum(nil))
			return err
		}),
	}, nil
}
