package fsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// A saved snapshot is a file: a magic number with the version of this format; the
// length of a SnapshotHeader (4 bytes), the header and the CRC-32C of all that
// so far; a checkpoint's stream (transfer.go); and the SHA-256 of everything
// before it, since the stream's own checksums leave names and lengths out.
// Numbers are big endian.
const (
	snapshotMagic  = "HFSNAP"
	snapshotFormat = "01"
	maxHeader      = 1 << 20
)

// snapshotHead encodes what stands before the stream.
func snapshotHead(header *pb.SnapshotHeader) []byte {
	record := encode(header)
	head := binary.BigEndian.AppendUint32([]byte(snapshotMagic+snapshotFormat), uint32(len(record)))
	head = append(head, record...)
	return binary.BigEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
}

// snapshotSize is how long the file is.
func snapshotSize(head []byte, header *pb.SnapshotHeader) int64 {
	return int64(len(head)) + int64(header.Size) + sha256.Size
}

// CheckSnapshot reads a snapshot's file to its end, checks all its checksums, and
// says what it is of. Its errors are for the operator.
func CheckSnapshot(file io.Reader) (*pb.SnapshotHeader, error) {
	s, err := openSnapshot(file)
	if err != nil {
		return nil, err
	}
	room := func(int64) error { return nil }
	return s.header, s.unpack(func(stream io.Reader) error {
		return unpackFiles(stream, room, func(string) (unpacked, error) { return discarded{}, nil })
	})
}

// discarded is a file that is only checked.
type discarded struct{}

func (discarded) Write(p []byte) (int, error) { return len(p), nil }
func (discarded) Sync() error                 { return nil }
func (discarded) Close() error                { return nil }

// snapshotFile is a snapshot's file that is being read.
type snapshotFile struct {
	in     *bufio.Reader
	hash   hash.Hash
	header *pb.SnapshotHeader
}

// openSnapshot reads the header.
func openSnapshot(file io.Reader) (*snapshotFile, error) {
	s := &snapshotFile{in: bufio.NewReaderSize(file, 256<<10), hash: sha256.New(), header: &pb.SnapshotHeader{}}
	head := make([]byte, len(snapshotMagic)+len(snapshotFormat)+4)
	if _, err := io.ReadFull(s.in, head); err != nil {
		return nil, notWhole(err, errNoSnapshot)
	}
	magic, format := head[:len(snapshotMagic)], string(head[len(snapshotMagic):len(head)-4])
	if string(magic) != snapshotMagic {
		return nil, errNoSnapshot
	}
	if format != snapshotFormat {
		return nil, fmt.Errorf("it is a snapshot of format %q, this program knows %q: use the program that wrote it, or a newer one", format, snapshotFormat)
	}
	size := binary.BigEndian.Uint32(head[len(head)-4:])
	if size > maxHeader {
		return nil, errors.New("it is damaged: its header can't be so long")
	}
	rest := make([]byte, size+4)
	if _, err := io.ReadFull(s.in, rest); err != nil {
		return nil, notWhole(err, nil)
	}
	head = append(head, rest...)
	end := len(head) - 4
	if binary.BigEndian.Uint32(head[end:]) != crc32.Checksum(head[:end], castagnoli) {
		return nil, errors.New("it is damaged: its header doesn't match its checksum")
	}
	if err := proto.Unmarshal(rest[:size], s.header); err != nil {
		return nil, fmt.Errorf("it is damaged: its header: %w", err)
	}
	if s.header.Version > Version {
		return nil, fmt.Errorf("its state is of version %d, this program knows up to %d: use a newer program", s.header.Version, Version)
	}
	s.hash.Write(head)
	return s, nil
}

var errNoSnapshot = errors.New("it isn't a snapshot of holdfast")

// unpack hands the stream to read, which takes all of it, and checks the hash of
// the whole file behind it.
func (s *snapshotFile) unpack(read func(stream io.Reader) error) error {
	stream := io.LimitReader(io.TeeReader(s.in, s.hash), int64(s.header.Size))
	if err := read(stream); err != nil {
		return notWhole(err, nil)
	}
	if n, err := io.Copy(io.Discard, stream); err != nil || n > 0 {
		return errorOf(err, errors.New("it is damaged: more is in it than its header says"))
	}
	want := make([]byte, sha256.Size)
	if _, err := io.ReadFull(s.in, want); err != nil {
		return notWhole(err, nil)
	}
	if !bytes.Equal(want, s.hash.Sum(nil)) {
		return errors.New("it is damaged: its bytes don't match its SHA-256")
	}
	if _, err := s.in.ReadByte(); !errors.Is(err, io.EOF) {
		return errorOf(err, errors.New("it is damaged: something follows its end"))
	}
	return nil
}

// notWhole tells a file that ends too early, and one with wrong checksums, from a
// failure to read; short is what it is then, if it is known.
func notWhole(err, short error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if short != nil {
			return short
		}
		return errors.New("it is cut off: its end is missing")
	case errors.Is(err, errTransfer):
		_, what, _ := strings.Cut(err.Error(), errTransfer.Error()+": ")
		return fmt.Errorf("it is damaged: %s", what)
	}
	return err
}
