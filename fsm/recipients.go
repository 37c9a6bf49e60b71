package fsm

import (
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// Listed reports whether a domain lists a recipient, in upper or lower case.
func (s *State) Listed(domain, localPart string) (bool, error) {
	gen, err := s.acquire()
	if err != nil {
		return false, err
	}
	defer gen.release()
	err = readRow(gen.db, keyOfListed(domain, strings.ToLower(localPart)), &pb.ListedRecord{})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Verified is what call-outs and deliveries have shown of a recipient, its local part
// as it is written, or with "" of the domain as a whole; nil where nothing is known
// that is good now. What is known of the domain goes first: one that takes any
// recipient may have refused this one before.
func (s *State) Verified(domain, localPart string, now time.Time) (*pb.VerifiedRecord, error) {
	// A row that is read here may be later than the tables, but not earlier: if they
	// don't fit, it isn't good.
	tables := s.published()
	gen, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer gen.release()
	record := &pb.VerifiedRecord{}
	err = readRow(gen.db, keyOfVerified(domain, localPart), record)
	if errors.Is(err, ErrNotFound) || err == nil && !tables.isKnown(domain, record, now.UnixNano()) {
		return nil, nil
	}
	return record, err
}

// ListedRecipient is a recipient that operators listed.
type ListedRecipient struct {
	LocalPart string // in lower case
	Record    *pb.ListedRecord
}

// ListedRecipients lists a domain's recipients behind one of them ("": from the
// beginning), sorted by local part, up to limit. A view that was rewound has none.
func (v *View) ListedRecipients(domain, behind string, limit int) ([]ListedRecipient, error) {
	var found []ListedRecipient
	err := v.eachRecipient(listedPrefix(domain), behind, func(localPart string, value []byte) error {
		if len(found) == limit {
			return errStop
		}
		found = append(found, ListedRecipient{LocalPart: localPart, Record: &pb.ListedRecord{}})
		return proto.Unmarshal(value, found[len(found)-1].Record)
	})
	return found, err
}

// VerifiedRecipient is a recipient of which something is known, or with "" the domain
// as a whole.
type VerifiedRecipient struct {
	LocalPart string // as it was written
	Record    *pb.VerifiedRecord
}

// VerifiedRecipients lists what is known of a domain's recipients and good now,
// behind one of them ("": from the beginning, with what is known of the domain
// first), sorted by local part, up to limit. A view that was rewound knows nothing.
func (v *View) VerifiedRecipients(domain, behind string, limit int, now time.Time) ([]VerifiedRecipient, error) {
	var found []VerifiedRecipient
	err := v.eachRecipient(verifiedPrefix(domain), behind, func(localPart string, value []byte) error {
		if len(found) == limit {
			return errStop
		}
		record := &pb.VerifiedRecord{}
		err := proto.Unmarshal(value, record)
		if err == nil && v.tables.isKnown(domain, record, now.UnixNano()) {
			found = append(found, VerifiedRecipient{LocalPart: localPart, Record: record})
		}
		return err
	})
	return found, err
}

// eachRecipient reads the rows of a domain behind a local part.
func (v *View) eachRecipient(prefix []byte, behind string, each func(localPart string, value []byte) error) error {
	if v.past {
		return nil // these families have no past
	}
	lower := prefix
	if behind != "" {
		lower = append(append(lower[:len(lower):len(lower)], behind...), 0)
	}
	return scanFrom(v.snap, lower, after(prefix), func(key, value []byte) error {
		return each(string(key[len(prefix):]), value)
	})
}
