package admin

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

type policyService struct {
	pb.UnimplementedPolicyServiceServer
	*node
}

// newPolicyJitter is that of a policy which is set without one.
const newPolicyJitter = 0.1

func (s *policyService) SetPolicy(ctx context.Context, req *pb.SetPolicyRequest) (*pb.SetPolicyResponse, error) {
	var policy relay.Policy
	var existed bool
	err := s.merge(ctx, "policy "+req.Name, func() (*pb.Event, error) {
		w, err := s.window(ctx)
		if err != nil {
			return nil, err
		}
		defer w.release()
		policy, existed, err = w.changedPolicy(req)
		config := fsm.PolicyConfig(policy)
		config.Revision = w.PolicyRevision(req.Name)
		return &pb.Event{Kind: &pb.Event_PolicySet{PolicySet: &pb.PolicySet{Policy: config}}}, err
	})
	if err != nil {
		return nil, err
	}
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	return &pb.SetPolicyResponse{Policy: w.policy(policy), Created: !existed}, nil
}

// changedPolicy is the policy as it will be: what isn't given stays as it is.
func (w window) changedPolicy(req *pb.SetPolicyRequest) (relay.Policy, bool, error) {
	policy, existed := w.Policy(req.Name)
	if !existed {
		policy = newPolicy(req.Name)
	}
	err := changePolicy(&policy, req)
	return policy, existed && err == nil, err
}

// newPolicy has no phases and no retention yet.
func newPolicy(name string) relay.Policy { return relay.Policy{Name: name, Jitter: newPolicyJitter} }

// changePolicy takes over what a request says, if all of it is valid.
func changePolicy(policy *relay.Policy, req *pb.SetPolicyRequest) error {
	if _, shipped := relay.ShippedPolicy(policy.Name); shipped {
		return invalid("name",
			"policy %s ships with the program and can't be changed: set one under another name", policy.Name)
	}
	if len(policy.Phases) == 0 && (len(req.Phases) == 0 || req.Retention == nil) {
		return invalid("phases",
			"policy %s is new: say when it tries with --phase, and when it gives up with --retention", policy.Name)
	}
	if len(req.Phases) > 0 {
		policy.Phases = phases(req.Phases)
	}
	if req.Retention != nil {
		policy.Retention = req.Retention.AsDuration()
	}
	if req.MaxAttempts != nil {
		policy.MaxAttempts = int(*req.MaxAttempts)
	}
	if req.WarnAfter != nil {
		policy.WarnAfter = req.WarnAfter.AsDuration()
	}
	if req.Jitter != nil {
		policy.Jitter = *req.Jitter
	}
	if err := policy.Validate(); err != nil {
		return invalid("policy", "policy %s: %v", policy.Name, err)
	}
	return nil
}

func phases(given []*pb.PolicyPhase) []relay.RetryPhase {
	all := make([]relay.RetryPhase, len(given))
	for i, p := range given {
		all[i] = relay.RetryPhase{Until: p.Until.AsDuration(), Every: p.Every.AsDuration(), Factor: p.Factor}
		if p.Factor == 0 {
			all[i].Factor = 1
		}
	}
	return all
}

func (s *policyService) GetPolicy(ctx context.Context, req *pb.GetPolicyRequest) (*pb.GetPolicyResponse, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	policy, ok := w.Policy(req.Name)
	if !ok || req.Name == "" {
		return nil, noPolicy(req.Name)
	}
	out := &pb.GetPolicyResponse{Policy: w.policy(policy), Stale: !w.quorum}
	for _, age := range policy.Times() {
		out.Attempts = append(out.Attempts, durationpb.New(age))
	}
	return out, nil
}

func (s *policyService) ListPolicies(ctx context.Context, req *pb.ListPoliciesRequest) (*pb.ListPoliciesResponse, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	name := func(p relay.Policy) string { return p.Name }
	policies, next, err := namedPage(w.listingOfNames("policies"), w.Policies(), name, req.PageSize, req.PageToken)
	if err != nil {
		return nil, err
	}
	out := &pb.ListPoliciesResponse{NextPageToken: next, Stale: !w.quorum}
	for _, policy := range policies {
		out.Policies = append(out.Policies, w.policy(policy))
	}
	return out, nil
}

func (s *policyService) RemovePolicy(ctx context.Context, req *pb.RemovePolicyRequest) (*pb.RemovePolicyResponse, error) {
	// What keeps it in use is checked where it counts, when the event is applied.
	event := &pb.Event{Kind: &pb.Event_PolicyRemoved{PolicyRemoved: &pb.PolicyRemoved{Name: req.Name}}}
	if err := s.configure(ctx, event, "policy "+req.Name); err != nil {
		return nil, err
	}
	return &pb.RemovePolicyResponse{}, nil
}

func (w window) policy(p relay.Policy) *pb.Policy {
	_, shipped := relay.ShippedPolicy(p.Name)
	out := &pb.Policy{
		Name: p.Name, Shipped: shipped, Retention: durationpb.New(p.Retention), MaxAttempts: uint32(p.MaxAttempts),
		Jitter: p.Jitter, Planned: uint32(len(p.Times())), Domains: uint32(w.PolicyUsers(p.Name)),
	}
	if p.WarnAfter > 0 {
		out.WarnAfter = durationpb.New(p.WarnAfter)
	}
	for _, phase := range p.Phases {
		out.Phases = append(out.Phases, &pb.PolicyPhase{
			Until: durationpb.New(phase.Until), Every: durationpb.New(phase.Every), Factor: phase.Factor,
		})
	}
	return out
}

func noPolicy(name string) error {
	return notFound("policy", name, fmt.Sprintf("no policy %s; `holdfast policy list` shows all", name))
}
