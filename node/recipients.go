package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/admin"
	"holdfast/delivery"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/smtpd"
	"holdfast/smtpd/verify"
)

// errNoOwner: no node is in service that could ask.
var errNoOwner = errors.New("no node owns its destination right now")

// askOwner has the owner of a destination ask it for a recipient.
func (n *Node) askOwner(ctx context.Context, destination, address string, anew bool) (pb.Verdict, *pb.Failure, error) {
	owner, ok := n.state.Owner(destination)
	if !ok {
		return 0, nil, errNoOwner
	}
	said, err := n.cluster.VerifyRecipient(ctx, owner, &pb.VerifyRecipientRequest{
		Destination: destination, Address: address, Anew: anew, AppliedIndex: n.state.AppliedIndex(),
	})
	switch status.Code(err) {
	case codes.OK:
		return said.Verdict, said.Failure, nil
	case codes.DeadlineExceeded:
		return 0, nil, context.DeadlineExceeded
	case codes.FailedPrecondition: // the owner's own word
		return 0, nil, errors.New(status.Convert(err).Message())
	}
	return 0, nil, fmt.Errorf("node %s, which owns its destination, doesn't answer", owner)
}

// verifyRecipient asks a destination that this node owns, for any node.
func (n *Node) verifyRecipient(ctx context.Context, req *pb.VerifyRecipientRequest) (*pb.VerifyRecipientResponse, error) {
	err := n.state.WaitApplied(ctx, req.AppliedIndex)
	var said delivery.Said
	if err == nil {
		said, err = n.scheduler.Ask(ctx, req.Destination, req.Address, req.Anew)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return &pb.VerifyRecipientResponse{Verdict: said.Verdict, Failure: said.Failure}, nil
}

// recipient answers a client's RCPT.
func (n *Node) recipient(ctx context.Context, client netip.Addr, domain *pb.DomainConfig, address string) *relay.Reply {
	return n.verifier.Recipient(ctx, client, domain, address).Reply
}

// everyRecipient is what is answered to every RCPT now, nil where that depends on the
// recipient, in the order in which a session asks.
func (n *Node) everyRecipient() *relay.Reply {
	if closed := (gate{n}).Check(); closed != nil {
		return closed
	}
	if !n.state.Configured() {
		return smtpd.NotConfigured()
	}
	return nil
}

// takesNothing is everyRecipient for operators.
func (n *Node) takesNothing() *pb.CheckRecipientResponse {
	reply := n.everyRecipient()
	if reply == nil {
		return nil
	}
	return &pb.CheckRecipientResponse{
		Code: uint32(reply.Code), Enhanced: reply.Enhanced, Text: reply.Text, Reason: pb.CheckRecipientResponse_REASON_UNKNOWN,
	}
}

// checkRecipient says what RCPT would be answered here, for operators.
func (n *Node) checkRecipient(ctx context.Context, who string, domain *pb.DomainConfig, address string, anew bool) *pb.CheckRecipientResponse {
	answer := verify.Answer{Reply: n.everyRecipient(), Reason: pb.CheckRecipientResponse_REASON_UNKNOWN}
	if answer.Reply == nil {
		messages, bytes := n.state.Queued(domain.Name)
		answer.Reply = smtpd.Full(domain, messages, bytes)
	}
	if answer.Reply == nil {
		answer = n.verifier.Check(ctx, who, domain, address, anew)
	}
	reply := answer.Reply
	if reply == nil {
		reply = smtpd.RecipientTaken()
	}
	out := &pb.CheckRecipientResponse{
		Code: uint32(reply.Code), Enhanced: reply.Enhanced, Text: reply.Text, Reason: answer.Reason,
		Verified: admin.Verified(address, answer.Record),
	}
	if answer.Failure != nil {
		out.Failure = answer.Failure.Error()
	}
	return out
}
