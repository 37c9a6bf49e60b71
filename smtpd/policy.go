package smtpd

import (
	"strings"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// admit decides whether mail to a recipient is taken; nil says yes. It may
// change a Postmaster without a domain into the configured one.
//
// The gate is asked before the state is read: what is read while it is open is
// no older than what the cluster had agreed on, and only that may be the ground
// of a refusal for good.
func (s *session) admit(recipient *pb.Recipient) *relay.Reply {
	if closed := s.server.cfg.Gate.Check(); closed != nil {
		return closed
	}
	directory := s.server.cfg.Directory
	if !directory.Configured() {
		return notConfigured
	}
	if strings.EqualFold(recipient.Address, "postmaster") {
		if s.server.cfg.Postmaster == "" {
			return noPostmaster
		}
		recipient.Address = s.server.cfg.Postmaster
	}
	// An address literal is never a relay domain: it gets the same answer.
	domain := relay.RelayDomain(recipient.Address)
	if _, found := directory.Domain(domain); !found {
		return relayDenied
	}
	if domain != relay.DomainOf(recipient.Address) {
		recipient.Domain = domain
	}
	return nil
}
