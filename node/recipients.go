package node

import (
	"context"
	"errors"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/admin"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/smtpd"
)

// errNoOwner: no node is in service that could ask.
var errNoOwner = errors.New("no node owns its destination right now")

// askOwner has the owner of a destination ask it for a recipient.
func (n *Node) askOwner(ctx context.Context, destination, address string, anew bool) (pb.Verdict, *pb.Failure, error) {
	owner, ok := n.state.Owner(destination)
	if !ok {
		return 0, nil, errNoOwner
	}
	said, err := n.cluster.VerifyRecipient(ctx, owner, &pb.VerifyRecipientRequest{Destination: destination, Address: address, Anew: anew})
	return said.GetVerdict(), said.GetFailure(), err
}

// verifyRecipient asks a destination that this node owns, for any node.
func (n *Node) verifyRecipient(ctx context.Context, req *pb.VerifyRecipientRequest) (*pb.VerifyRecipientResponse, error) {
	said, err := n.scheduler.Ask(ctx, req.Destination, req.Address, req.Anew)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &pb.VerifyRecipientResponse{Verdict: said.Verdict, Failure: said.Failure}, nil
}

// recipient answers a client's RCPT.
func (n *Node) recipient(ctx context.Context, client netip.Addr, domain *pb.DomainConfig, address string) *relay.Reply {
	return n.verifier.Recipient(ctx, client, domain, address).Reply
}

// checkRecipient says what RCPT would be answered, for operators.
func (n *Node) checkRecipient(ctx context.Context, domain *pb.DomainConfig, address string, anew bool) *pb.CheckRecipientResponse {
	answer := n.verifier.Check(ctx, domain, address, anew)
	reply := answer.Reply
	if reply == nil {
		reply = smtpd.RecipientTaken()
	}
	out := &pb.CheckRecipientResponse{
		Code: uint32(reply.Code), Enhanced: reply.Enhanced, Text: reply.Text, Reason: answer.Reason,
		Verified: admin.Verified(address, answer.Record),
	}
	if answer.Failure != nil {
		out.Failure = status.Convert(answer.Failure).Message()
	}
	return out
}
