package admin

import (
	"encoding/base64"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// listing is what a page token belongs to: a cursor is a key of the state, and
// means nothing in another list or under another filter.
type listing string

func listingOf(name string, filter *pb.MessageFilter) (listing, error) {
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(filter)
	if err != nil {
		return "", invalid("filter", "%v", err)
	}
	return listing(name + " " + string(bytes)), nil
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
		return nil, invalid("page_token", "page_token belongs to another request: keep the filter from page to page")
	}
	return cursor, nil
}

func (l listing) seal(cursor []byte) []byte {
	return binary.BigEndian.AppendUint64(nil, xxhash.Sum64String(string(l)+string(cursor)))
}
