package fsm

import (
	"math"
	"slices"
	"strings"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// thousandths is the unit in which events carry shares and factors.
const thousandths = 1000

// PolicyConfig is a policy as events carry it.
func PolicyConfig(p relay.Policy) *pb.PolicyConfig {
	config := &pb.PolicyConfig{
		Name: p.Name, Retention: int64(p.Retention), MaxAttempts: uint32(p.MaxAttempts),
		WarnAfter: int64(p.WarnAfter), Jitter: uint32(math.Round(p.Jitter * thousandths)),
	}
	for _, phase := range p.Phases {
		config.Phases = append(config.Phases, &pb.PolicyConfig_Phase{
			Until: int64(phase.Until), Every: int64(phase.Every), Factor: uint32(math.Round(phase.Factor * thousandths)),
		})
	}
	return config
}

// policyOf is the reverse of PolicyConfig.
func policyOf(config *pb.PolicyConfig) relay.Policy {
	p := relay.Policy{
		Name: config.Name, Retention: time.Duration(config.Retention), MaxAttempts: int(config.MaxAttempts),
		WarnAfter: time.Duration(config.WarnAfter), Jitter: float64(config.Jitter) / thousandths,
	}
	for _, phase := range config.Phases {
		p.Phases = append(p.Phases, relay.RetryPhase{
			Until: time.Duration(phase.Until), Every: time.Duration(phase.Every), Factor: float64(phase.Factor) / thousandths,
		})
	}
	return p
}

// policy finds a policy, shipped or an operator's own; "" is the default.
func (t *tables) policy(name string) (relay.Policy, bool) {
	if name == "" {
		name = relay.DefaultPolicy
	}
	if p, ok := relay.ShippedPolicy(name); ok {
		return p, true
	}
	config, ok := lookup(t.policies, name)
	if !ok {
		return relay.Policy{}, false
	}
	return policyOf(config), true
}

// policyFor is the policy that a class of mail goes by at a domain. A domain that
// was removed while an attempt was under way has the default.
func (t *tables) policyFor(domain string, class Class) relay.Policy {
	p, _ := t.policy(relay.DefaultPolicy)
	if class == ClassReport {
		return p
	}
	config, _ := lookup(t.domains, domain)
	if own, ok := t.policy(config.GetPolicy()); ok {
		p = own
	}
	if class == ClassSpam {
		p.Retention = min(p.Retention, SpamRetention(config))
	}
	return p
}

// SpamRetention is the age at which a domain's marked mail is dropped, if its
// policy doesn't end before.
func SpamRetention(domain *pb.DomainConfig) time.Duration {
	if d := time.Duration(domain.GetSpamRetention()); d > 0 {
		return d
	}
	return relay.DefaultSpamRetention
}

// routeOf is the relay domain that mail to an address goes by, and whether it is
// configured.
func (t *tables) routeOf(address string) (domain string, found bool) {
	return relay.RouteOf(address, func(name string) bool {
		_, found := lookup(t.domains, name)
		return found
	})
}

// references are the destinations and policies that domains name.
type references struct{ destinations, policies map[string]reference }

type reference struct {
	domains int
	first   string // of the domains, by name
}

func (t *tables) references() references {
	in := references{destinations: make(map[string]reference), policies: make(map[string]reference)}
	add := func(to map[string]reference, name, domain string) {
		r := to[name]
		if r.domains++; r.domains == 1 {
			r.first = domain
		}
		to[name] = r
	}
	for _, domain := range list(t.domains) {
		add(in.destinations, domain.Destination, domain.Name)
		add(in.policies, domain.Policy, domain.Name)
	}
	return in
}

// PolicyFor is the policy that a class of mail goes by at a domain now.
func (s *State) PolicyFor(domain string, class Class) relay.Policy {
	t := s.published()
	return t.policyFor(domain, class)
}

// PolicyFor is the policy that a class of mail goes by at a domain.
func (v *View) PolicyFor(domain string, class Class) relay.Policy {
	return v.tables.policyFor(domain, class)
}

// Policy finds a policy, shipped or an operator's own.
func (v *View) Policy(name string) (relay.Policy, bool) { return v.tables.policy(name) }

// PolicyRevision is the revision that a change of a policy is made from.
func (v *View) PolicyRevision(name string) uint64 {
	config, _ := lookup(v.tables.policies, name)
	return config.GetRevision()
}

// Policies lists all policies, sorted by name.
func (v *View) Policies() []relay.Policy {
	all := relay.ShippedPolicies()
	for _, config := range list(v.tables.policies) {
		all = append(all, policyOf(config))
	}
	slices.SortFunc(all, func(a, b relay.Policy) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// PolicyUsers counts the domains that name a policy.
func (v *View) PolicyUsers(name string) int { return v.tables.references().policies[name].domains }
