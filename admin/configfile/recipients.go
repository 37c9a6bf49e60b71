package configfile

import (
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	pb "holdfast/proto/holdfast/v1"
)

// DomainEntry is a domain's table with its list of recipients.
type DomainEntry struct {
	Entry[*pb.SetDomainRequest]
	// Lists: the file has the list, an empty one too.
	Lists      bool
	Recipients []Item
}

// Item is an item of a list and where it stands.
type Item struct {
	Text string
	Line int
}

const recipients = "recipients"

func domainEntry(s *scanner, t *table) DomainEntry {
	e := DomainEntry{Entry: entryOf(s, t, domainKeys, &pb.SetDomainRequest{Name: t.name})}
	v, given := t.keys[recipients]
	if _, err := texts(v); !given || err != nil {
		return e
	}
	e.Lists = true
	for _, item := range v.list {
		e.Recipients = append(e.Recipients, Item{Text: item.text, Line: item.line})
	}
	return e
}

// takeRecipients only looks at the kind: the list is no part of the request.
func takeRecipients(_ *pb.SetDomainRequest, v value) error {
	_, err := texts(v)
	return err
}

// longestList is how long a list may be in one line.
const longestList = 80

// OfRecipients is a domain's list as a file has it: in one line where it is short,
// otherwise with a line each, so that two files can be compared.
func OfRecipients(localParts []string) Value {
	text := list(localParts)
	if len(recipients+" = "+text) > longestList {
		var b strings.Builder
		for _, item := range localParts {
			b.WriteString("  " + quote(item) + ",\n")
		}
		text = "[\n" + b.String() + "]"
	}
	return Value{recipients, text}
}

// lineOfItem is where an item of a list stands.
func (s *scanner) lineOfItem(node *unstable.Node, line int) int {
	if node.Raw.Length == 0 {
		return line
	}
	return s.lineOf(int(node.Raw.Offset))
}

var verifyWords = map[pb.Verify]string{
	pb.Verify_VERIFY_UNSPECIFIED: "off", pb.Verify_VERIFY_OFF: "off",
	pb.Verify_VERIFY_CALLOUT: "callout", pb.Verify_VERIFY_LISTED: "listed",
}

// VerifyWord is a way to verify recipients in the contract's word.
func VerifyWord(v pb.Verify) string { return verifyWords[v] }

// ParseVerify reads such a word.
func ParseVerify(word string) (pb.Verify, error) {
	for v, w := range verifyWords {
		if w == word && v != pb.Verify_VERIFY_UNSPECIFIED {
			return v, nil
		}
	}
	return 0, fmt.Errorf("verify %q: want off, callout or listed", word)
}

func takeVerify(r *pb.SetDomainRequest, v value) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	verify, err := ParseVerify(s)
	if err == nil {
		r.Verify = &verify
	}
	return err
}
