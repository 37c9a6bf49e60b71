package admin

import (
	"encoding/base64"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// listing is what a page token belongs to: a cursor is a key of the state, and
// means nothing in another list, under another filter, or to a caller who sees
// other domains.
type listing string

func (w window) listing(name string, filter *pb.MessageFilter) (listing, error) {
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(filter)
	if err != nil {
		return "", invalid("filter", "%v", err)
	}
	return listing(name + " " + w.caller.listing() + " " + string(bytes)), nil
}

// listingOfNames is that of a list without a filter.
func (w window) listingOfNames(name string) listing {
	return listing(name + " " + w.caller.listing())
}

// token is "" for the end of the list.
func (l listing) token(cursor []byte) string {
	if cursor == nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(append(l.seal(cursor), cursor...))
}

// cursor is nil for the beginning of the list.
func (l listing) cursor(token string) ([]byte, error) {
	if token == "" {
		return nil, nil
	}
	sealed, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(sealed) <= 8 {
		return nil, invalid("page_token", "page_token is not one that this service gave out")
	}
	cursor := sealed[8:]
	if string(sealed[:8]) != string(l.seal(cursor)) {
		return nil, invalid("page_token", "page_token belongs to another request: keep the filter, and the credentials, from page to page")
	}
	return cursor, nil
}

// position is the cursor of a list of history rows, zero for its beginning.
func (l listing) position(token string) (fsm.Position, error) {
	key, err := l.cursor(token)
	if err != nil || key == nil {
		return fsm.Position{}, err
	}
	if len(key) != 12 {
		return fsm.Position{}, invalid("page_token", "page_token is not one that this service gave out")
	}
	return fsm.Position{Index: binary.BigEndian.Uint64(key), Row: binary.BigEndian.Uint32(key[8:])}, nil
}

func positionKey(p fsm.Position) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, p.Index), p.Row)
}

func (l listing) seal(cursor []byte) []byte {
	return binary.BigEndian.AppendUint64(nil, xxhash.Sum64String(string(l)+string(cursor)))
}
