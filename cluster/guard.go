package cluster

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"holdfast/pki"
	pb "holdfast/proto/holdfast/v1"
)

// maxCalls is how many calls of one connection may be under way; its client waits
// with more. Some need no credentials, and may go on for ever.
const maxCalls = 250

// ServerOptions secure a server that other nodes call, and keep everybody else
// away from PeerService. Calls of other services they let through as they come.
func (c *Cluster) ServerOptions() []grpc.ServerOption {
	// Who connects and says nothing is gone as soon as on the raft port.
	options := append(c.cutOptions(), grpc.ConnectionTimeout(prefaceTimeout), grpc.MaxConcurrentStreams(maxCalls))
	if c.cfg.TLS == nil {
		return append(options, grpc.Creds(insecure.NewCredentials()))
	}
	return append([]grpc.ServerOption{
		grpc.Creds(c.cfg.TLS.ForServer()),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if err := c.admitNode(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return handle(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if err := c.admitNode(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			return handle(server, stream)
		}),
	}, options...)
}

var peerMethods = "/" + pb.PeerService_ServiceDesc.ServiceName + "/"

// admitNode refuses calls of PeerService that don't come from a node.
func (c *Cluster) admitNode(ctx context.Context, method string) error {
	if !strings.HasPrefix(method, peerMethods) {
		return nil
	}
	switch id, err := pki.FromPeer(ctx); {
	case errors.Is(err, pki.ErrNone):
		return status.Error(codes.Unauthenticated, "only nodes may call PeerService: no certificate was shown")
	case err != nil:
		return status.Error(codes.Unauthenticated, err.Error())
	case id.Kind != pki.Node:
		c.log.Warn("refused a call that only nodes may make", "method", method, "by", id.String())
		return status.Errorf(codes.PermissionDenied, "only nodes may call PeerService, not %s", id)
	}
	return nil
}

// checkName wants the other end of a call to be the node that it says it is.
func (c *Cluster) checkName(ctx context.Context, node string) error {
	if c.cfg.TLS == nil {
		return nil
	}
	id, err := pki.FromPeer(ctx)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if id != (pki.Identity{Kind: pki.Node, Name: node}) {
		return status.Errorf(codes.PermissionDenied, "the certificate is for %s, not for node %s", id, node)
	}
	return nil
}
