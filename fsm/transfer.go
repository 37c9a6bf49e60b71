package fsm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A checkpoint travels as one stream: a magic number and the total size of its
// files; for each file the length of its name (2 bytes), its name, its size (8),
// its bytes and their CRC-32C (4); then a name of length 0 and the CRC-32C of
// all checksums before it. Numbers are big endian.
const transferMagic = "HFCKPT01"

// frameOverhead is what a file adds to the stream beside its name and bytes.
const frameOverhead = 2 + 8 + 4

var errTransfer = errors.New("the checkpoint stream is damaged")

type transferFile struct {
	name string
	size int64
}

// streamSize is the exact length of the stream: raft refuses any other.
func streamSize(files []transferFile) int64 {
	size := int64(len(transferMagic) + 8 + 2 + 4)
	for _, f := range files {
		size += frameOverhead + int64(len(f.name)) + f.size
	}
	return size
}

// sendFiles writes the files of a folder as a stream.
func sendFiles(w io.Writer, fs vfs.FS, dir string, files []transferFile) error {
	out := bufio.NewWriterSize(w, 256<<10)
	total := int64(0)
	for _, f := range files {
		total += f.size
	}
	head := binary.BigEndian.AppendUint64([]byte(transferMagic), uint64(total))
	if _, err := out.Write(head); err != nil {
		return err
	}
	sums := crc32.New(castagnoli)
	for _, f := range files {
		if err := sendFile(out, sums, fs, dir, f); err != nil {
			return fmt.Errorf("send %s: %w", f.name, err)
		}
	}
	tail := binary.BigEndian.AppendUint32([]byte{0, 0}, sums.Sum32())
	if _, err := out.Write(tail); err != nil {
		return err
	}
	return out.Flush()
}

func sendFile(out io.Writer, sums io.Writer, fs vfs.FS, dir string, f transferFile) error {
	file, err := fs.Open(fs.PathJoin(dir, f.name))
	if err != nil {
		return err
	}
	defer file.Close()
	head := binary.BigEndian.AppendUint16(nil, uint16(len(f.name)))
	head = append(head, f.name...)
	head = binary.BigEndian.AppendUint64(head, uint64(f.size))
	if _, err := out.Write(head); err != nil {
		return err
	}
	sum := crc32.New(castagnoli)
	n, err := io.Copy(io.MultiWriter(out, sum), io.LimitReader(file, f.size))
	if err != nil {
		return err
	}
	if n != f.size {
		return fmt.Errorf("%d bytes of %d", n, f.size)
	}
	checksum := binary.BigEndian.AppendUint32(nil, sum.Sum32())
	if _, err := sums.Write(checksum); err != nil {
		return err
	}
	_, err = out.Write(checksum)
	return err
}

// unpacked is where a received file goes.
type unpacked interface {
	io.WriteCloser
	Sync() error
}

// receiveFiles unpacks a stream into a folder; each file is on disk when it
// returns. mayTake is asked once whether that many bytes find room.
func receiveFiles(r io.Reader, fs vfs.FS, dir string, mayTake func(int64) error) error {
	err := unpackFiles(r, mayTake, func(name string) (unpacked, error) {
		return fs.Create(fs.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
	})
	if err != nil {
		return err
	}
	return syncDir(fs, dir)
}

// unpackFiles reads a stream and checks all its checksums.
func unpackFiles(r io.Reader, mayTake func(int64) error, create func(name string) (unpacked, error)) error {
	in := bufio.NewReaderSize(r, 256<<10)
	head := make([]byte, len(transferMagic)+8)
	if _, err := io.ReadFull(in, head); err != nil {
		return fmt.Errorf("%w: %w", errTransfer, err)
	}
	if string(head[:len(transferMagic)]) != transferMagic {
		return fmt.Errorf("%w: it isn't one", errTransfer)
	}
	if err := mayTake(int64(binary.BigEndian.Uint64(head[len(transferMagic):]))); err != nil {
		return err
	}
	sums := crc32.New(castagnoli)
	for {
		more, err := receiveFile(in, sums, create)
		if err != nil {
			return fmt.Errorf("receive checkpoint: %w", err)
		}
		if !more {
			break
		}
	}
	var tail [4]byte
	if _, err := io.ReadFull(in, tail[:]); err != nil {
		return fmt.Errorf("%w: %w", errTransfer, err)
	}
	if binary.BigEndian.Uint32(tail[:]) != sums.Sum32() {
		return fmt.Errorf("%w: its checksum doesn't match", errTransfer)
	}
	return nil
}

func receiveFile(in io.Reader, sums io.Writer, create func(name string) (unpacked, error)) (more bool, err error) {
	var length [2]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return false, err
	}
	n := binary.BigEndian.Uint16(length[:])
	if n == 0 {
		return false, nil
	}
	head := make([]byte, int(n)+8)
	if _, err := io.ReadFull(in, head); err != nil {
		return false, err
	}
	name := string(head[:n])
	if strings.ContainsAny(name, "/\\") || name == "." || name == ".." {
		return false, fmt.Errorf("%w: file name %q", errTransfer, name)
	}
	file, err := create(name)
	if err != nil {
		return false, err
	}
	sum := crc32.New(castagnoli)
	_, err = io.CopyN(io.MultiWriter(sum, file), in, int64(binary.BigEndian.Uint64(head[n:])))
	if err == nil {
		err = file.Sync()
	}
	if err = errorOf(err, file.Close()); err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	var want [4]byte
	if _, err := io.ReadFull(in, want[:]); err != nil {
		return false, err
	}
	if binary.BigEndian.Uint32(want[:]) != sum.Sum32() {
		return false, fmt.Errorf("%w: %s doesn't match its checksum", errTransfer, name)
	}
	_, err = sums.Write(want[:])
	return true, err
}
