package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

type domainService struct {
	pb.UnimplementedDomainServiceServer
	*node
}

func (s *domainService) SetDomain(ctx context.Context, req *pb.SetDomainRequest) (*pb.SetDomainResponse, error) {
	name, err := domainName(req.Name)
	if err != nil {
		return nil, err
	}
	var domain *pb.DomainConfig
	var existed bool
	err = s.merge(ctx, "domain "+name, func() (event *pb.Event, err error) {
		domain, existed, err = s.changed(ctx, name, req)
		return &pb.Event{Kind: &pb.Event_DomainSet{DomainSet: &pb.DomainSet{Domain: domain}}}, err
	})
	if err != nil {
		return nil, err
	}
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	return &pb.SetDomainResponse{Domain: w.domain(domain), Created: !existed}, nil
}

// changed is the domain as it will be: what isn't given stays as it is.
func (s *domainService) changed(ctx context.Context, name string, req *pb.SetDomainRequest) (*pb.DomainConfig, bool, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, false, err
	}
	defer w.release()
	domain := newDomain(name)
	present, existed := w.Domain(name)
	if existed {
		domain = proto.CloneOf(present)
	}
	return domain, existed, changeDomain(domain, req, w)
}

// newDomain has no destination yet. The recipients of others' domains are nobody's
// here to know.
func newDomain(name string) *pb.DomainConfig {
	domain := &pb.DomainConfig{Name: name, Policy: relay.DefaultPolicy, Verify: pb.Verify_VERIFY_CALLOUT}
	if name == relay.DefaultRoute {
		domain.Verify = pb.Verify_VERIFY_OFF
	}
	return domain
}

// named finds what a domain can name.
type named interface {
	Policy(name string) (relay.Policy, bool)
	Destination(name string) (*pb.DestinationRecord, bool)
}

// changeDomain takes over what a request says, if all of it is valid.
func changeDomain(domain *pb.DomainConfig, req *pb.SetDomainRequest, in named) error {
	if req.Policy != nil {
		if _, ok := in.Policy(*req.Policy); !ok || *req.Policy == "" {
			return noPolicy(*req.Policy)
		}
		domain.Policy = *req.Policy
	}
	if req.Destination != nil {
		domain.Destination = *req.Destination
	}
	if req.Verify != nil {
		if err := checkVerify(domain.Name, *req.Verify); err != nil {
			return err
		}
		domain.Verify = *req.Verify
	}
	if err := changeLimits(domain, req); err != nil {
		return err
	}
	if domain.Destination == "" {
		return invalid("destination", "domain %s is new: say where its mail goes with --destination", domain.Name)
	}
	if err := checkDestinationName("destination", domain.Destination); err != nil {
		return err
	}
	if _, ok := in.Destination(domain.Destination); !ok {
		return notFound("destination", domain.Destination,
			fmt.Sprintf("no destination %s: create it with `holdfast destination set %s --host HOST:PORT`", domain.Destination, domain.Destination))
	}
	return nil
}

func checkVerify(domain string, verify pb.Verify) error {
	switch verify {
	case pb.Verify_VERIFY_OFF:
	case pb.Verify_VERIFY_CALLOUT, pb.Verify_VERIFY_LISTED:
		if domain == relay.DefaultRoute {
			return invalid("verify", "domain %s is the way to all others, whose recipients nobody here knows: want verify off", domain)
		}
	default:
		return invalid("verify", "verify: want off, callout or listed")
	}
	return nil
}

// verifyOf is a domain's way to verify recipients; off is that of those that were
// set before there was one.
func verifyOf(d *pb.DomainConfig) pb.Verify {
	if d.Verify == pb.Verify_VERIFY_UNSPECIFIED {
		return pb.Verify_VERIFY_OFF
	}
	return d.Verify
}

func (s *domainService) GetDomain(ctx context.Context, req *pb.GetDomainRequest) (*pb.GetDomainResponse, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	domain, ok := w.Domain(strings.ToLower(req.Name))
	if !ok {
		return nil, noDomain(req.Name)
	}
	return &pb.GetDomainResponse{Domain: w.domain(domain), Stale: !w.quorum}, nil
}

func (s *domainService) ListDomains(ctx context.Context, req *pb.ListDomainsRequest) (*pb.ListDomainsResponse, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	domains, next, err := namedPage(w.listingOfNames("domains"), w.Domains(), (*pb.DomainConfig).GetName, req.PageSize, req.PageToken)
	if err != nil {
		return nil, err
	}
	out := &pb.ListDomainsResponse{NextPageToken: next, Stale: !w.quorum}
	for _, domain := range domains {
		out.Domains = append(out.Domains, w.domain(domain))
	}
	return out, nil
}

func (s *domainService) RemoveDomain(ctx context.Context, req *pb.RemoveDomainRequest) (*pb.RemoveDomainResponse, error) {
	name := strings.ToLower(req.Name)
	if err := s.removable(ctx, name); err != nil {
		return nil, err
	}
	event := &pb.Event{Kind: &pb.Event_DomainRemoved{DomainRemoved: &pb.DomainRemoved{Name: name}}}
	if err := s.configure(ctx, event, "domain "+name); err != nil {
		return nil, err
	}
	return &pb.RemoveDomainResponse{}, nil
}

// removable names the way out where there is queued mail. Applying the event
// checks again, at its own index.
func (s *domainService) removable(ctx context.Context, name string) error {
	w, err := s.window(ctx)
	if err != nil {
		return err
	}
	defer w.release()
	if _, ok := w.Domain(name); !ok {
		return noDomain(name)
	}
	return w.domainInUse(name)
}

// domainInUse says what keeps a domain from being removed, nil if nothing does.
func (w window) domainInUse(name string) error {
	if n := queued(w.DomainCounter(name)); n > 0 {
		return precondition("IN_USE", name,
			"domain %s has %s: wait until all are delivered or returned; `holdfast queue list --domain %s` shows them", name, numbered(int(n), "queued recipient"), relay.ShellWord(name))
	}
	if n := w.DomainCounter(name).GetListed(); n > fsm.MaxRecipientsChanged {
		return precondition("IN_USE", name,
			"domain %s has %d listed recipients: `holdfast recipient remove --all %s` comes first", name, n, name)
	}
	if token := w.TokenFor(name); token != "" {
		return precondition("IN_USE", name,
			"domain %s is one that token %s is limited to: `holdfast token revoke %s` comes first", name, token, token)
	}
	return nil
}

func (w window) domain(d *pb.DomainConfig) *pb.Domain {
	counter := w.DomainCounter(d.Name)
	return &pb.Domain{
		Name: d.Name, Destination: d.Destination, Policy: d.Policy, Count: queueCount(counter),
		SpamIf: d.SpamIf, SpamRetention: durationpb.New(fsm.SpamRetention(d)),
		Verify: verifyOf(d), Listed: counter.GetListed(),
		MaxMessages: d.MaxMessages, MaxBytes: d.MaxBytes, Messages: counter.GetMessages(), Bytes: counter.GetBytes(),
	}
}

func noDomain(name string) error {
	return notFound("domain", name, fmt.Sprintf("no domain %s; `holdfast domain list` shows all", name))
}

// queued recipients keep their domain and destination in use.
func queued(c *pb.CounterRecord) uint64 {
	return c.GetPending() + c.GetHeld() + c.GetFrozen()
}

// namedPage cuts a page out of a list sorted by name. Its token is the last
// name of the page, so that changes between two pages shift nothing.
func namedPage[T any](l listing, all []T, name func(T) string, size uint32, token string) ([]T, string, error) {
	limit, err := pageSize(size)
	if err != nil {
		return nil, "", err
	}
	cursor, err := l.cursor(token)
	if err != nil {
		return nil, "", err
	}
	from, found := slices.BinarySearchFunc(all, string(cursor), func(item T, after string) int {
		return strings.Compare(name(item), after)
	})
	if found {
		from++
	}
	rest := all[from:]
	if len(rest) <= limit {
		return rest, "", nil
	}
	return rest[:limit], l.token([]byte(name(rest[limit-1]))), nil
}
