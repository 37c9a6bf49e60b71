package admin

import (
	"cmp"
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

type recipientService struct {
	pb.UnimplementedRecipientServiceServer
	*node
}

func (s *recipientService) AddRecipients(ctx context.Context, req *pb.AddRecipientsRequest) (*pb.AddRecipientsResponse, error) {
	change := &pb.RecipientsChanged{}
	changed, listed, err := s.change(ctx, change, &change.Added, req.Domain, req.Addresses)
	if err != nil {
		return nil, err
	}
	return &pb.AddRecipientsResponse{Added: changed, Listed: listed}, nil
}

func (s *recipientService) RemoveRecipients(ctx context.Context, req *pb.RemoveRecipientsRequest) (*pb.RemoveRecipientsResponse, error) {
	change := &pb.RecipientsChanged{}
	changed, listed, err := s.change(ctx, change, &change.Removed, req.Domain, req.Addresses)
	if err != nil {
		return nil, err
	}
	return &pb.RemoveRecipientsResponse{Removed: changed, Listed: listed}, nil
}

// change brings a change of a list into the log, what is given in one of its fields,
// and returns how many recipients weren't as it wants them, and how many are listed
// then.
func (s *recipientService) change(ctx context.Context, change *pb.RecipientsChanged, field *[]string, domain string, given []string) (uint32, uint64, error) {
	var err error
	if change.Domain, err = s.domainWithList(ctx, domain); err != nil {
		return 0, 0, err
	}
	if *field, err = localParts(change.Domain, given); err != nil {
		return 0, 0, err
	}
	event := &pb.Event{Kind: &pb.Event_RecipientsChanged{RecipientsChanged: change}}
	result, index, err := s.proposeResult(ctx, event, "recipients of "+change.Domain)
	if err != nil {
		return 0, 0, err
	}
	if err := s.inEffect(ctx, index); err != nil {
		return 0, 0, err
	}
	w, err := s.window(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer w.release()
	return result.Changed, w.DomainCounter(change.Domain).GetListed(), nil
}

// domainWithList is the name of a domain, as it is configured, that can have a list.
func (s *recipientService) domainWithList(ctx context.Context, given string) (string, error) {
	w, err := s.window(ctx)
	if err != nil {
		return "", err
	}
	defer w.release()
	config, err := w.domainNamed(given)
	if err != nil {
		return "", err
	}
	if config.Name == relay.DefaultRoute {
		return "", invalid("domain", "domain %s is the way to all others, and has no recipients of its own", config.Name)
	}
	return config.Name, nil
}

// domainNamed finds a domain that exists for the caller by its name, in U-labels too
// as addresses have it.
func (w window) domainNamed(given string) (*pb.DomainConfig, error) {
	name := given
	if name != relay.DefaultRoute {
		name = relay.RelayDomain("x@" + given)
	}
	config, ok := w.Domain(name)
	if !ok {
		return nil, noDomain(given)
	}
	return config, nil
}

// localParts are recipients of a domain as its list has them.
func localParts(domain string, given []string) ([]string, error) {
	switch {
	case len(given) == 0:
		return nil, invalid("addresses", "no recipient is given")
	case len(given) > fsm.MaxRecipientsChanged:
		return nil, invalid("addresses", "%d recipients in a call: want %d at most", len(given), fsm.MaxRecipientsChanged)
	}
	found := make([]string, len(given))
	for i, address := range given {
		var err error
		if found[i], err = relay.ListedLocalPart(domain, address); err != nil {
			return nil, invalid("addresses", "%v", err)
		}
	}
	return found, nil
}

func (s *recipientService) ListRecipients(ctx context.Context, req *pb.ListRecipientsRequest) (*pb.ListRecipientsResponse, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	config, err := w.domainNamed(req.Domain)
	if err != nil {
		return nil, err
	}
	rows, next, err := rowsPage(w.listingOfNames("recipients "+config.Name), req.PageSize, req.PageToken,
		func(r fsm.ListedRecipient) string { return r.LocalPart },
		func(behind string, limit int) ([]fsm.ListedRecipient, error) {
			return w.ListedRecipients(config.Name, behind, limit)
		})
	if err != nil {
		return nil, err
	}
	out := &pb.ListRecipientsResponse{NextPageToken: next, Stale: !w.quorum}
	for _, row := range rows {
		out.Recipients = append(out.Recipients, &pb.ListedRecipient{
			Address: row.LocalPart + "@" + config.Name, AddedAt: timestamp(row.Record.AddedAt), AddedBy: row.Record.AddedBy,
		})
	}
	return out, nil
}

func (s *recipientService) ListVerified(ctx context.Context, req *pb.ListVerifiedRequest) (*pb.ListVerifiedResponse, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	config, err := w.domainNamed(req.Domain)
	if err != nil {
		return nil, err
	}
	rows, next, err := rowsPage(w.listingOfNames("verified "+config.Name), req.PageSize, req.PageToken,
		// The domain's own row is the first and has no name: NUL is behind it, and
		// ahead of all others.
		func(r fsm.VerifiedRecipient) string { return cmp.Or(r.LocalPart, "\x00") },
		func(behind string, limit int) ([]fsm.VerifiedRecipient, error) {
			return w.VerifiedRecipients(config.Name, behind, limit, w.now)
		})
	if err != nil {
		return nil, err
	}
	out := &pb.ListVerifiedResponse{NextPageToken: next, Stale: !w.quorum}
	for _, row := range rows {
		out.Recipients = append(out.Recipients, Verified(row.LocalPart+"@"+config.Name, row.Record))
	}
	return out, nil
}

// Verified shows what is known of an address, or of its domain as a whole; nil where
// nothing is.
func Verified(address string, record *pb.VerifiedRecord) *pb.VerifiedRecipient {
	if record == nil {
		return nil
	}
	v := &pb.VerifiedRecipient{
		Verdict: record.Verdict, At: timestamp(record.At), Until: timestamp(record.Until), Error: deliveryError(record.Failure),
	}
	if v.Verdict == pb.Verdict_VERDICT_VALID || v.Verdict == pb.Verdict_VERDICT_INVALID {
		v.Address = address
	}
	return v
}

// rowsPage reads a page of rows sorted by name. Its token is the last name of the
// page, so that changes between two pages shift nothing.
func rowsPage[T any](l listing, size uint32, token string, name func(T) string, read func(behind string, limit int) ([]T, error)) ([]T, string, error) {
	limit, err := pageSize(size)
	if err != nil {
		return nil, "", err
	}
	cursor, err := l.cursor(token)
	if err != nil {
		return nil, "", err
	}
	rows, err := read(string(cursor), limit+1)
	if err != nil {
		return nil, "", readError(err, string(l))
	}
	if len(rows) <= limit {
		return rows, "", nil
	}
	return rows[:limit], l.token([]byte(name(rows[limit-1]))), nil
}

// CheckRecipient asks what RCPT is answered. A domain that doesn't exist for the
// caller is answered as one that nobody has configured.
func (s *recipientService) CheckRecipient(ctx context.Context, req *pb.CheckRecipientRequest) (*pb.CheckRecipientResponse, error) {
	local, domain, err := relay.ParseMailbox(req.Address)
	if err != nil {
		return nil, invalid("address", "%q is not a mail address", req.Address)
	}
	if c := callerOf(ctx); req.Anew && c.role < operator {
		return nil, status.Errorf(codes.PermissionDenied, "to ask the destination anew needs the role %s; %s has %s",
			roleWord(operator), c.name, roleWord(c.role))
	}
	if s.TakesNothing != nil {
		if refused := s.TakesNothing(); refused != nil {
			return refused, nil
		}
	}
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	config, ok := w.Domain(domain)
	w.release() // a call-out takes its time
	if !ok {
		return &pb.CheckRecipientResponse{
			Code: 550, Enhanced: "5.7.1", Text: "no mail is relayed for this domain",
			Reason: pb.CheckRecipientResponse_REASON_NO_DOMAIN,
		}, nil
	}
	if s.Config.CheckRecipient == nil {
		return nil, status.Error(codes.Unimplemented, "this node checks no recipients")
	}
	return s.Config.CheckRecipient(ctx, callerOf(ctx).name, config, local+"@"+domain, req.Anew), nil
}
