package relay

import "strings"

// RefusesRecipient reports whether a reply to RCPT says that there is no such
// recipient: RFC 3463 sections 3.2 and 3.3, the address or its mailbox. Without an
// enhanced code it goes by RFC 5321 section 4.2.3. Servers give refusals of who asks or
// sends there too, which say nothing of the recipient.
func RefusesRecipient(code int, enhanced string) bool {
	switch {
	case code < 500 || code > 599:
		return false
	case enhanced == "":
		return code == 550 || code == 551 || code == 553
	case strings.HasPrefix(enhanced, "5.1."):
		return enhanced != "5.1.7" && enhanced != "5.1.8" // the sender's address
	}
	return enhanced == "5.2.0" || enhanced == "5.2.1"
}
