package verify

import (
	"fmt"
	"strings"
	"unicode"

	pb "holdfast/proto/holdfast/v1"
)

// maxSaid bounds a remote's words, in bytes, so that the reply stays below the 512 of
// RFC 5321 section 4.5.3.1.5.
const maxSaid = 300

// said is a destination's refusal as one line of a reply.
func said(f *pb.Failure) string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r > unicode.MaxASCII {
			// Without SMTPUTF8 a reply is ASCII (RFC 6531 section 3.7.4.2).
			return '?'
		}
		return r
	}, strings.Join(strings.Fields(f.Text), " "))
	if len(text) > maxSaid {
		text = text[:maxSaid]
	}
	if f.Enhanced != "" {
		return fmt.Sprintf("%d %s %s", f.Code, f.Enhanced, text)
	}
	return fmt.Sprintf("%d %s", f.Code, text)
}
