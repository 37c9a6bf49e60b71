package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

type accessService struct {
	pb.UnimplementedAccessServiceServer
	*node
}

// shortestTTL: a token that lives shorter has expired before it is copied.
const (
	shortestTTL = time.Minute
	longestTTL  = 10 * 366 * 24 * time.Hour
)

// CreateToken brings the hash of a secret into the log; the secret itself goes to
// the caller alone.
func (s *accessService) CreateToken(ctx context.Context, req *pb.CreateTokenRequest) (*pb.CreateTokenResponse, error) {
	config, err := s.newToken(ctx, req)
	if err != nil {
		return nil, err
	}
	id, secret, hash := newSecret()
	config.Id, config.SecretSha256 = id, hash
	record := &pb.TokenRecord{Config: proto.CloneOf(config)}
	event := &pb.Event{Kind: &pb.Event_TokenSet{TokenSet: &pb.TokenSet{Token: config}}}
	late, err := s.configureOnce(ctx, event, "token "+req.Name)
	if err != nil {
		return nil, lookFirst(err, fmt.Sprintf("`holdfast token list`: if %s is there its secret is lost, revoke it and create it again", req.Name))
	}
	switch known, ok := s.State.Token(id); {
	case ok:
		record = known
	case late == "":
		return nil, noToken(req.Name) // revoked at this moment
	}
	return &pb.CreateTokenResponse{Token: token(record, s.Now()), Secret: secret, Unconfirmed: late}, nil
}

// newToken checks what a token is to be; applying the event checks again.
func (s *accessService) newToken(ctx context.Context, req *pb.CreateTokenRequest) (*pb.TokenConfig, error) {
	config := &pb.TokenConfig{Name: req.Name, Role: req.Role, CreatedBy: operatorOf(ctx)}
	if !fsm.IsTokenName(req.Name) {
		return nil, invalid("name", "token name %q: want 1 to 63 letters, digits, \".\", \"_\", \"-\" or \"@\"", req.Name)
	}
	if _, known := pb.Role_name[int32(req.Role)]; !known || req.Role == pb.Role_ROLE_UNSPECIFIED {
		return nil, invalid("role", "token %s: say what it may do: viewer, operator or admin", req.Name)
	}
	if len(req.Domains) > 0 && req.Role == admin {
		return nil, invalid("domains", "token %s: what an admin may do has no limit to domains; viewer and operator can have one", req.Name)
	}
	for _, given := range req.Domains {
		domain, err := domainName(given)
		if err != nil {
			return nil, err
		}
		if _, ok := s.State.Domain(domain); !ok {
			return nil, noDomain(domain)
		}
		config.Domains = append(config.Domains, domain)
	}
	slices.Sort(config.Domains)
	config.Domains = slices.Compact(config.Domains)
	if len(config.Domains) > fsm.MaxTokenDomains {
		return nil, invalid("domains", "%d domains: %d at most", len(config.Domains), fsm.MaxTokenDomains)
	}
	if req.Ttl != nil {
		ttl := req.Ttl.AsDuration()
		if ttl < shortestTTL || ttl > longestTTL {
			return nil, invalid("ttl", "ttl %s: want 1m to 10 years", ttl)
		}
		config.ExpiresAt = s.Now().Add(ttl).UnixNano()
	}
	return config, nil
}

func (s *accessService) ListTokens(ctx context.Context, req *pb.ListTokensRequest) (*pb.ListTokensResponse, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	name := func(r *pb.TokenRecord) string { return r.Config.GetName() }
	records, next, err := namedPage(w.listingOfNames("tokens"), w.Tokens(), name, req.PageSize, req.PageToken)
	if err != nil {
		return nil, err
	}
	out := &pb.ListTokensResponse{NextPageToken: next, Stale: !w.quorum}
	for _, record := range records {
		out.Tokens = append(out.Tokens, token(record, w.now))
	}
	return out, nil
}

// RevokeToken takes a name or an id. A name is never an id of another token: ids
// are random.
func (s *accessService) RevokeToken(ctx context.Context, req *pb.RevokeTokenRequest) (*pb.RevokeTokenResponse, error) {
	record, err := s.find(ctx, req.Token)
	if err != nil {
		return nil, err
	}
	event := &pb.Event{Kind: &pb.Event_TokenRevoked{TokenRevoked: &pb.TokenRevoked{Id: record.Config.Id, By: operatorOf(ctx)}}}
	if err := s.configure(ctx, event, "token "+record.Config.Name); err != nil {
		return nil, err
	}
	return &pb.RevokeTokenResponse{}, nil
}

func (s *accessService) find(ctx context.Context, given string) (*pb.TokenRecord, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	all := w.Tokens()
	i := slices.IndexFunc(all, func(r *pb.TokenRecord) bool { return r.Config.Name == given })
	if i < 0 {
		i = slices.IndexFunc(all, func(r *pb.TokenRecord) bool { return r.Config.Id == given })
	}
	switch {
	case i >= 0:
		return all[i], nil
	case strings.HasPrefix(given, secretPrefix):
		return nil, invalid("token", "that is a token's secret: name the token; `holdfast token list` shows all")
	}
	return nil, noToken(given)
}

func noToken(name string) error {
	return notFound("token", name, fmt.Sprintf("no token %s; `holdfast token list` shows all", name))
}

// token is a token without its hash.
func token(r *pb.TokenRecord, now time.Time) *pb.Token {
	c := r.Config
	return &pb.Token{
		Id: c.Id, Name: c.Name, Role: c.Role, Domains: c.Domains, CreatedBy: c.CreatedBy,
		CreatedAt: timestamp(r.CreatedAt), ExpiresAt: timestamp(c.ExpiresAt), Expired: expired(r, now),
	}
}
