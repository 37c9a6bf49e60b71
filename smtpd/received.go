package smtpd

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// receivedHeader is the trace header that a message gets (RFC 5321 section
// 4.4), the only thing that is ever added to it. The recipient is named only if
// it is the only one, not to disclose the others (section 7.6).
func receivedHeader(origin *pb.Origin, client netip.Addr, hostname string, id relay.MessageID, recipients []*pb.Recipient, now time.Time) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "Received: from %s (%s)\r\n", origin.Helo, addressLiteral(client))
	fmt.Fprintf(&b, "\tby %s with %s id %s", hostname, origin.Protocol, id)
	if len(recipients) == 1 {
		fmt.Fprintf(&b, "\r\n\tfor <%s>", recipients[0].Address)
	}
	fmt.Fprintf(&b, ";\r\n\t%s\r\n", now.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	return []byte(b.String())
}

// addressLiteral writes an address as RFC 5321 section 4.1.3 does.
func addressLiteral(client netip.Addr) string {
	if client.Is6() {
		return "[IPv6:" + client.String() + "]"
	}
	return "[" + client.String() + "]"
}
