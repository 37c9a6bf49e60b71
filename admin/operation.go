package admin

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// operation checks what is to be done and adds who does it.
func (s *queueService) operation(ctx context.Context, w window, req *pb.QueueOperation) (*pb.Operation, error) {
	op := &pb.Operation{
		Kind: req.GetKind(), By: operatorOf(ctx), Reason: oneLine(req.GetReason()),
		Destination: req.GetDestination(), Address: req.GetAddress(),
		Domains: w.caller.domains,
	}
	if len(fsm.OperableStates(op.Kind)) == 0 {
		return nil, invalid("operation.kind", "operation %d is unknown", op.Kind)
	}
	if err := checkReason("operation.reason", op.Reason); err != nil {
		return nil, err
	}
	if op.Kind == pb.Operation_KIND_DELETE {
		op.UndoFor = max(0, w.Settings().DeleteGrace).Nanoseconds()
	}
	if op.Kind != pb.Operation_KIND_REDIRECT {
		if op.Destination != "" || op.Address != "" {
			return nil, invalid("operation", "only a redirection takes a destination or an address")
		}
		return op, nil
	}
	return op, w.checkRedirection(op)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func checkReason(field, reason string) error {
	if len(reason) > fsm.MaxReason || !utf8.ValidString(reason) {
		return invalid(field, "the reason has %d bytes: %d at most, in UTF-8", len(reason), fsm.MaxReason)
	}
	return nil
}

func (w window) checkRedirection(op *pb.Operation) error {
	switch {
	case (op.Destination == "") == (op.Address == ""):
		return invalid("operation", "a redirection takes a destination or an address, one of the two")
	case op.Destination != "":
		if _, ok := w.named(op.Destination); !ok {
			return notFound("destination", op.Destination, fmt.Sprintf("no destination %q: `holdfast destination list` shows those there are", op.Destination))
		}
		return nil
	}
	if _, _, err := relay.ParseMailbox(op.Address); err != nil {
		return invalid("operation.address", "%q is not an address", op.Address)
	}
	domain, found := w.RouteOf(op.Address)
	if !found || !w.caller.sees(domain) {
		domain = relay.RelayDomain(op.Address)
		return precondition("ROUTE", op.Address, "domain %s isn't configured here: `holdfast domain set %s --destination NAME` comes first", domain, domain)
	}
	op.Domain = relay.OtherDomain(op.Address, domain)
	return nil
}
