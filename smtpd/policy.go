package smtpd

import (
	"context"
	"strings"
	"time"

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
	postmaster := strings.EqualFold(recipient.Address, "postmaster")
	if postmaster {
		recipient.Address = s.server.cfg.postmaster()
		if recipient.Address == "" {
			return noPostmaster
		}
	}
	config, refusal := s.route(recipient.Address)
	if refusal != nil {
		return refusal
	}
	if refusal := s.full(config); refusal != nil {
		return refusal
	}
	// The operator who named the postmaster vouches for the address (RFC 5321 section
	// 4.5.1), and nobody here knows the recipients of other domains.
	if !postmaster && config.Name != relay.DefaultRoute {
		if refusal := s.verify(config, recipient.Address); refusal != nil {
			return refusal
		}
	}
	recipient.Domain = relay.OtherDomain(recipient.Address, config.Name)
	return nil
}

// route finds the relay domain that mail to an address goes by, if this client may
// send there.
func (s *session) route(address string) (*pb.DomainConfig, *relay.Reply) {
	var config *pb.DomainConfig
	name, found := relay.RouteOf(address, func(name string) (found bool) {
		config, found = s.server.cfg.Directory.Domain(name)
		return found
	})
	switch {
	case found && name != relay.DefaultRoute:
		return config, nil
	case name != relay.DefaultRoute || !s.trusted():
		return nil, relayDenied
	case !found:
		return nil, noDefaultRoute
	}
	return config, nil
}

// maxVerifying is how long a transaction may wait for destinations to say of its
// recipients whether they exist. A client that pipelines hundreds of RCPT has the time
// of one for each (RFC 5321 section 4.5.3.2.3), but nobody to tell it that it goes on.
const maxVerifying = 30 * time.Second

// verify asks whether there is such a recipient.
func (s *session) verify(domain *pb.DomainConfig, address string) *relay.Reply {
	if s.server.cfg.Verify == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.server.proposing, maxVerifying-s.tx.verifying)
	defer cancel()
	began := time.Now()
	refusal := s.server.cfg.Verify(ctx, s.client, domain, address)
	s.tx.verifying += time.Since(began)
	return refusal
}

// trusted: the client may send mail to domains that aren't configured (R15).
func (s *session) trusted() bool {
	if s.account != nil {
		return true
	}
	// A proxy that doesn't say who its client is may speak for anybody.
	return !s.server.cfg.proxied(s.client) && s.server.cfg.Directory.InRelayNetwork(s.client)
}

// full refuses a message that a domain's limits have no room for.
func (s *session) full(domain *pb.DomainConfig) *relay.Reply {
	if domain.MaxMessages == 0 && domain.MaxBytes == 0 {
		return nil
	}
	if domain.MaxBytes > 0 && uint64(s.tx.declared) >= domain.MaxBytes {
		return domainTooSmall // waiting makes no room
	}
	messages, bytes := s.server.cfg.Directory.Queued(domain.Name)
	return Full(domain, messages, bytes+uint64(s.tx.declared))
}

// Full is the refusal of mail to a domain that holds so much, nil where there is room.
// The answer to DATA is one for all recipients, so the limits are looked at before:
// what arrives at the same moment may take a domain past them by a message each.
func Full(domain *pb.DomainConfig, messages, bytes uint64) *relay.Reply {
	if domain.MaxMessages > 0 && messages >= domain.MaxMessages || domain.MaxBytes > 0 && bytes >= domain.MaxBytes {
		return domainFull
	}
	return nil
}
