package fsm

import (
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// policySet works from each message's next attempt on, since that is when a
// policy is asked; expiry goes by the policy as it is.
func (t *tx) policySet(e *pb.PolicySet) *pb.EventResult {
	if e.Policy == nil {
		return invalid("no policy is given")
	}
	policy := policyOf(e.Policy)
	if err := policy.Validate(); err != nil {
		return invalid("%v", err)
	}
	if _, shipped := relay.ShippedPolicy(policy.Name); shipped {
		return invalid("policy %s ships with the program and can't be changed: set one under another name", policy.Name)
	}
	old, _ := lookup(t.tables.policies, policy.Name)
	if e.Policy.Revision != old.GetRevision() {
		return stale("policy %q was changed meanwhile", policy.Name)
	}
	config := proto.CloneOf(e.Policy)
	config.Revision = t.index
	key := keyOfName(famPolicies, policy.Name)
	t.put(key, t.get(key), encode(config))
	t.tables.policies, _, _ = t.tables.policies.Insert([]byte(policy.Name), config)
	return resultOK
}

func (t *tx) policyRemoved(e *pb.PolicyRemoved) *pb.EventResult {
	if _, shipped := relay.ShippedPolicy(e.Name); shipped {
		return invalid("policy %s ships with the program and can't be removed", e.Name)
	}
	old, ok := lookup(t.tables.policies, e.Name)
	if !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no policy %q", e.Name)
	}
	if n, domain := t.tables.users(e.Name); n > 0 {
		return refused(pb.EventResult_CODE_IN_USE,
			"policy %s is used by %d domains, %s for one: give them another one with `holdfast domain set %s --policy NAME` first",
			e.Name, n, domain, domain)
	}
	t.remove(keyOfName(famPolicies, e.Name), encode(old))
	t.tables.policies, _, _ = t.tables.policies.Delete([]byte(e.Name))
	return resultOK
}
