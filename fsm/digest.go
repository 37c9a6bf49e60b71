package fsm

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	pb "holdfast/proto/holdfast/v1"
)

// digest is the sum of the hashes of a family's rows. A sum doesn't depend on
// the order in which rows came, so it is kept row by row as they change.
type digest struct {
	sum  uint64
	rows uint64
}

type digests [256]digest

func (d *digests) add(key []byte, hash uint64) {
	d[key[0]].sum += hash
	d[key[0]].rows++
}

func (d *digests) remove(key []byte, hash uint64) {
	d[key[0]].sum -= hash
	d[key[0]].rows--
}

// record lists the digests of the families that a version of the state has,
// sorted by name: those of later ones older programs don't know.
func (d *digests) record(version uint32) []*pb.AppliedRecord_Digest {
	list := make([]*pb.AppliedRecord_Digest, 0, len(replicated))
	for _, f := range replicated {
		if familySince(f.family) <= version {
			list = append(list, &pb.AppliedRecord_Digest{Family: f.name, Sum: d[f.family].sum, Rows: d[f.family].rows})
		}
	}
	return list
}

func (d *digests) load(list []*pb.AppliedRecord_Digest) {
	byName := make(map[string]*pb.AppliedRecord_Digest, len(list))
	for _, row := range list {
		byName[row.Family] = row
	}
	for _, f := range replicated {
		row := byName[f.name]
		d[f.family] = digest{sum: row.GetSum(), rows: row.GetRows()}
	}
}

// rowHash hashes a row of any family but content.
func rowHash(key, value []byte) uint64 {
	var h xxhash.Digest
	h.Reset()
	_, _ = h.Write(key) // never fails
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(value)))
	_, _ = h.Write(size[:])
	_, _ = h.Write(value)
	return h.Sum64()
}

// contentHash hashes a row of the content family by its checksum, so that a
// body needn't be read again to be removed.
func contentHash(key []byte, size, crc uint32) uint64 {
	var value [8]byte
	binary.BigEndian.PutUint32(value[:4], size)
	binary.BigEndian.PutUint32(value[4:], crc)
	return rowHash(key, value[:])
}
