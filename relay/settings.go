package relay

import (
	"fmt"
	"strings"
	"time"
)

// Settings hold for the whole cluster.
type Settings struct {
	// LogRetention is how long the log keeps messages that have ended.
	LogRetention time.Duration
	// DeleteGrace is how long a deletion can be undone.
	DeleteGrace time.Duration
	// FrozenAge is when a frozen report goes.
	FrozenAge time.Duration
	// MaxMessageSize is the longest message taken, in bytes.
	MaxMessageSize int64
	// WarnPending is how many pending recipients of one destination are warned
	// about; 0 is never.
	WarnPending uint64
	// WarnOldest is the age of a pending message that is warned about; 0 is never.
	WarnOldest time.Duration
	// DrillConsent lets operators have the cluster kill or cut off a node of its own.
	DrillConsent bool
	// Postmaster gets mail to <Postmaster> without a domain; "" is nobody.
	Postmaster string
	// RelayNetworks are the addresses and networks whose clients may send mail to
	// domains that aren't configured.
	RelayNetworks []string
	// VerifyValid and VerifyInvalid are how long what a call-out said of a recipient
	// is good: that there is one, and that there is none.
	VerifyValid, VerifyInvalid time.Duration
}

// DefaultSettings hold until they are changed. Apply goes by them too, so those
// of a state's version never change.
func DefaultSettings() Settings {
	return Settings{
		LogRetention: 30 * day, DeleteGrace: 10 * time.Minute, FrozenAge: 30 * day,
		MaxMessageSize: 50 << 20, WarnPending: 10_000, WarnOldest: 4 * time.Hour,
		VerifyValid: 4 * day, VerifyInvalid: 2 * time.Hour,
	}
}

// Validate names the first setting that is out of its range, as the command
// line calls it.
func (s Settings) Validate() error {
	for _, d := range []struct {
		name               string
		value, least, most time.Duration
	}{
		{"log-retention", s.LogRetention, day, 3650 * day},
		{"delete-grace", s.DeleteGrace, 0, 12 * time.Hour},
		{"frozen-age", s.FrozenAge, time.Hour, 3650 * day},
		{"warn-oldest", s.WarnOldest, 0, 3650 * day},
		{"verify-valid", s.VerifyValid, time.Minute, 90 * day},
		{"verify-invalid", s.VerifyInvalid, time.Minute, 90 * day},
	} {
		if d.value < d.least || d.value > d.most {
			return fmt.Errorf("%s: want %s to %s", d.name, FormatDuration(d.least), FormatDuration(d.most))
		}
	}
	// RFC 5321 section 4.5.3.1.7 wants at least 64 KiB taken.
	if s.MaxMessageSize < 64<<10 || s.MaxMessageSize > 1<<30 {
		return fmt.Errorf("max-message-size: want %d (64 KiB) to %d (1 GiB)", 64<<10, 1<<30)
	}
	if s.Postmaster != "" && !isMailbox(s.Postmaster) {
		return fmt.Errorf("postmaster: %q is not a mail address with a domain", s.Postmaster)
	}
	if _, err := ParseRelayNetworks(s.RelayNetworks); err != nil {
		return fmt.Errorf("relay-networks: %w", err)
	}
	return nil
}

// isMailbox is stricter than RFC 5321 section 4.1.2: a local part without quotes, and
// a domain that isn't an address literal. All is ASCII, since the sender of mail to
// <Postmaster> need not speak SMTPUTF8.
func isMailbox(address string) bool {
	unfit := func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>()[]\,;:"`, r) }
	local, _, err := SplitAddress(address)
	return err == nil && local != "*" && RelayDomain(address) != "" && len(address) <= MaxPath && !strings.ContainsFunc(address, unfit) && !strings.Contains(local, "@")
}
