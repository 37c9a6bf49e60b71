package fsm

import (
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// policySet works from each message's next attempt on, since that is when a
// policy is asked; expiry goes by the policy as it is.
func (t *tx) policySet(e *pb.PolicySet) *pb.EventResult {
	if refusal := refusePolicy(e.Policy); refusal != nil {
		return refusal
	}
	name := e.Policy.Name
	if old, _ := lookup(t.tables.policies, name); e.Policy.Revision != old.GetRevision() {
		return stale("policy %q was changed meanwhile", name)
	}
	t.putPolicy(e.Policy)
	t.configured("policy " + name)
	return resultOK
}

// refusePolicy says what keeps a policy from being set, nil if nothing does.
func refusePolicy(config *pb.PolicyConfig) *pb.EventResult {
	if config == nil {
		return invalid("no policy is given")
	}
	if err := policyOf(config).Validate(); err != nil {
		return invalid("%v", err)
	}
	if _, shipped := relay.ShippedPolicy(config.Name); shipped {
		return invalid("policy %s ships with the program and can't be changed: set one under another name", config.Name)
	}
	return nil
}

func (t *tx) putPolicy(given *pb.PolicyConfig) {
	config := proto.CloneOf(given)
	config.Revision = t.index
	key := keyOfName(famPolicies, config.Name)
	t.put(key, t.get(key), encode(config))
	t.tables.policies, _, _ = t.tables.policies.Insert([]byte(config.Name), config)
}

func (t *tx) policyRemoved(e *pb.PolicyRemoved) *pb.EventResult {
	if refusal := t.refusePolicyRemoval(e.Name, t.tables.references()); refusal != nil {
		return refusal
	}
	t.dropPolicy(e.Name)
	t.configured("policy " + e.Name)
	return resultOK
}

// refusePolicyRemoval says what keeps a policy from being removed, nil if nothing
// does: it names the way out.
func (t *tx) refusePolicyRemoval(name string, in references) *pb.EventResult {
	if _, shipped := relay.ShippedPolicy(name); shipped {
		return invalid("policy %s ships with the program and can't be removed", name)
	}
	if _, ok := lookup(t.tables.policies, name); !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no policy %q", name)
	}
	if user, used := in.policies[name]; used {
		return refused(pb.EventResult_CODE_IN_USE,
			"policy %s is used by %d domains, %s for one: give them another one with `holdfast domain set %s --policy NAME` first",
			name, user.domains, user.first, user.first)
	}
	return nil
}

func (t *tx) dropPolicy(name string) {
	old, _ := lookup(t.tables.policies, name)
	t.remove(keyOfName(famPolicies, name), encode(old))
	t.tables.policies, _, _ = t.tables.policies.Delete([]byte(name))
}
