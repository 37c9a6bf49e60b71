package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"holdfast/fsm"
	"holdfast/loglimit"
	"holdfast/pki"
	pb "holdfast/proto/holdfast/v1"
)

// Access decides who may call what: one table (permissions), asked by one
// interceptor for plain calls and one for streams.
type Access struct {
	state   *fsm.State
	log     *slog.Logger
	now     func() time.Time
	open    bool
	refused *prometheus.CounterVec
	lines   *loglimit.Lines // about refusals
}

// AccessConfig is what Access goes by.
type AccessConfig struct {
	State   *fsm.State // has the tokens
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	// Now is the cluster's time, by which tokens expire.
	Now func() time.Time
	// Open lets everybody on TCP administer: `dev` only, on loopback.
	Open bool
}

// Why a call is refused, as the metric has it.
const (
	refusedCredentials = "credentials" // none, or not good ones
	refusedRole        = "role"        // the caller's role isn't enough
	refusedDomains     = "domains"     // not for callers who are limited to domains
	refusedPeer        = "peer"        // between nodes only
)

// NewAccess prepares the decisions of one node, for all its servers.
func NewAccess(cfg AccessConfig) *Access {
	a := &Access{
		state: cfg.State, log: cfg.Logger, now: cfg.Now, open: cfg.Open, lines: loglimit.New(cfg.Logger, cfg.Now),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_admin_refused_total",
			Help: "gRPC calls refused, by reason: no good credentials, role not enough, not for callers limited to domains, between nodes only.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{refusedCredentials, refusedRole, refusedDomains, refusedPeer} {
		a.refused.WithLabelValues(reason)
	}
	cfg.Metrics.MustRegister(a.refused)
	return a
}

// Close ends what Access has to say, once no server asks it any more.
func (a *Access) Close() { a.lines.Close() }

// Interceptors are the options with which a server asks for every call.
func (a *Access) Interceptors() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(a.unary), grpc.ChainStreamInterceptor(a.stream)}
}

func (a *Access) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	c, err := a.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	requestOf(ctx).by = c.name
	return handle(withCaller(ctx, c), req)
}

func (a *Access) stream(server any, s grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	c, err := a.admit(s.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	requestOf(s.Context()).by = c.name
	return handle(server, &admitted{ServerStream: s, access: a, caller: c})
}

// admitted is a stream whose caller was let in. A stream may go on for weeks, so
// a token is judged anew with every message.
type admitted struct {
	grpc.ServerStream
	access *Access
	caller caller
}

func (s *admitted) Context() context.Context { return withCaller(s.ServerStream.Context(), s.caller) }

func (s *admitted) SendMsg(m any) error {
	if s.caller.token != "" {
		record, ok := s.access.state.Token(s.caller.token)
		err := status.Error(codes.Unauthenticated, "the token was revoked meanwhile")
		if ok {
			err = s.access.current(record)
		}
		if err != nil {
			pki.Unknown(s.Context())
			return err
		}
	}
	return s.ServerStream.SendMsg(m)
}

// admit lets a call in, or refuses it: logged once, with who and what, or counted
// where there are too many.
func (a *Access) admit(ctx context.Context, method string) (caller, error) {
	c, reason, err := a.judge(ctx, method)
	if err != nil {
		a.refused.WithLabelValues(reason).Inc()
		if reason == refusedCredentials {
			pki.Unknown(ctx)
		}
		if a.lines.Admit() {
			a.log.Warn("call refused", "method", method, "by", c.name, "from", addressOf(ctx), "reason", reason, "error", status.Convert(err).Message())
		}
	}
	return c, err
}

func (a *Access) judge(ctx context.Context, method string) (c caller, reason string, err error) {
	needs, known := permissions[method]
	if needs.open {
		return nobody, "", nil
	}
	if needs.nodes {
		c, err := a.node(ctx)
		return c, refusedPeer, err
	}
	c, err = a.identify(ctx)
	switch {
	case err != nil:
		return nobody, refusedCredentials, err
	case !known:
		// Whoever adds a method adds it to the table; a test says so before this does.
		return c, refusedRole, status.Errorf(codes.PermissionDenied, "%s is nobody's to call", methodWord(method))
	case c.role < needs.role:
		return c, refusedRole, status.Errorf(codes.PermissionDenied, "%s needs the role %s; %s has %s",
			methodWord(method), roleWord(needs.role), c.name, roleWord(c.role))
	case c.limited() && !needs.limited:
		return c, refusedDomains, status.Errorf(codes.PermissionDenied, "%s is not for callers who are limited to domains, as %s is (%s)",
			methodWord(method), c.name, some(c.domains))
	}
	return c, "", nil
}

// identify says who calls. Credentials that are given count, whatever the way
// they came: who shows a token doesn't get more than the token's for having opened
// the socket.
func (a *Access) identify(ctx context.Context) (caller, error) {
	secret, given, err := bearer(ctx)
	if err != nil {
		return nobody, err
	}
	if given {
		c, err := a.byToken(ctx, secret)
		if err == nil {
			pki.Known(ctx)
		}
		return c, err
	}
	switch id, err := pki.FromPeer(ctx); {
	case err == nil:
		return byCertificate(id)
	case !errors.Is(err, pki.ErrNone):
		return nobody, status.Error(codes.Unauthenticated, err.Error())
	}
	from, ok := peer.FromContext(ctx)
	if !ok {
		return nobody, noCredentials
	}
	switch addr := from.Addr.(type) {
	case localUser:
		return caller{name: addr.String(), role: admin}, nil
	case *net.UnixAddr:
		return caller{name: SocketName, role: admin}, nil
	}
	if a.open {
		return caller{name: "client " + from.Addr.String(), role: admin}, nil
	}
	return nobody, noCredentials
}

var noCredentials = status.Error(codes.Unauthenticated,
	"no credentials: use a node's socket, a client's certificate (--tls-cert, --tls-key) or a token (HOLDFAST_TOKEN, --token-file)")

func byCertificate(id pki.Identity) (caller, error) {
	c := caller{name: "certificate " + id.Name}
	switch id.Kind {
	case pki.Viewer:
		c.role = viewer
	case pki.Operator:
		c.role = operator
	case pki.Admin:
		c.role = admin
	default:
		return nobody, status.Errorf(codes.PermissionDenied,
			"the certificate is for %s: to administer, use one that `holdfast tls issue` has made for a person", id)
	}
	return c, nil
}

// node admits calls between nodes. Without TLS nodes are on loopback, and so is
// whoever calls.
func (a *Access) node(ctx context.Context) (caller, error) {
	c := caller{name: "a node", domains: []string{}}
	from, ok := peer.FromContext(ctx)
	if !ok {
		return nobody, noCredentials
	}
	if !pki.Encrypted(from) && from.Addr.Network() == "tcp" {
		return c, nil
	}
	switch id, err := pki.FromPeer(ctx); {
	case err != nil:
		return nobody, status.Errorf(codes.Unauthenticated, "only nodes may call this: %v", err)
	case id.Kind != pki.Node:
		return caller{name: "certificate " + id.Name}, status.Errorf(codes.PermissionDenied, "only nodes may call this, not %s", id)
	default:
		c.name = "node " + id.Name
	}
	return c, nil
}

// bearer is the token that comes with a call (RFC 6750 section 2.1).
func bearer(ctx context.Context) (secret string, given bool, err error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch len(values) {
	case 0:
		return "", false, nil
	case 1:
	default:
		return "", true, status.Error(codes.Unauthenticated, "more than one authorization is given")
	}
	scheme, secret, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return "", true, status.Error(codes.Unauthenticated, "the authorization is not of the form \"Bearer TOKEN\"")
	}
	return secret, true, nil
}

func (a *Access) byToken(ctx context.Context, secret string) (caller, error) {
	if !isPrivate(ctx) {
		return nobody, status.Error(codes.Unauthenticated, "a token came in plain text over the network: revoke it, everybody on the way could read it")
	}
	record, ok := a.tokenOf(secret)
	if !ok {
		return nobody, status.Error(codes.Unauthenticated, "the token is unknown, or was revoked")
	}
	if err := a.current(record); err != nil {
		return nobody, err
	}
	config := record.Config
	c := caller{name: "token " + config.Name, role: config.Role, token: config.Id}
	if len(config.Domains) > 0 {
		c.domains = config.Domains
	}
	return c, nil
}

// isPrivate: nobody else reads what comes this way.
func isPrivate(ctx context.Context) bool {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	if pki.Encrypted(from) || from.Addr.Network() == "unix" {
		return true
	}
	address, err := netip.ParseAddrPort(from.Addr.String())
	return err == nil && address.Addr().Unmap().IsLoopback()
}

// current: the token hasn't expired.
func (a *Access) current(record *pb.TokenRecord) error {
	if expired(record, a.now()) {
		return status.Error(codes.Unauthenticated, fmt.Sprintf("token %s expired at %s: ask an administrator for a new one",
			record.Config.Name, stamp(record.Config.ExpiresAt)))
	}
	return nil
}

func addressOf(ctx context.Context) string {
	if from, ok := peer.FromContext(ctx); ok {
		return from.Addr.String()
	}
	return ""
}
