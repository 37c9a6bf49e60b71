package admin

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// maxTargets is how many recipients one event operates on.
const maxTargets = 500

// OperateQueued wants every message named to be one that the operation fits,
// before any is touched.
func (s *queueService) OperateQueued(ctx context.Context, req *pb.OperateQueuedRequest) (*pb.OperateQueuedResponse, error) {
	op, named, err := s.named(ctx, req)
	if err != nil {
		return nil, err
	}
	out := &pb.OperateQueuedResponse{Messages: named.messages}
	if req.DryRun {
		out.Recipients, out.Waiting = named.ready, named.tried
		return out, nil
	}
	var last uint64
	for _, targets := range named.events {
		event := &pb.Event{Kind: &pb.Event_Operated{Operated: &pb.Operated{Operation: op, Targets: targets}}}
		result, index, err := s.proposeResult(ctx, event, fmt.Sprintf("%s of %d messages", fsm.OperationWord(op.Kind), len(targets)))
		if status.Code(err) == codes.Aborted {
			continue // all of them were claimed, or ended, since the view
		}
		if err != nil && out.Recipients+out.Waiting > 0 {
			return nil, status.Errorf(status.Code(err), "%s (before that, it was done to %d recipients)",
				status.Convert(err).Message(), out.Recipients+out.Waiting)
		}
		if err != nil {
			return nil, err
		}
		out.Recipients += uint64(result.Changed)
		out.Waiting += uint64(result.Waiting)
		last = index
	}
	// The caller may look at once, and wants to see what it did. Where that takes too
	// long the error says that it is in the log: so none of it may be left to propose.
	if err := s.applied(ctx, last); err != nil {
		return nil, err
	}
	if out.Recipients+out.Waiting == 0 {
		return nil, status.Error(codes.Aborted, "nothing was changed: the recipients were tried, or ended, at this very moment; look again")
	}
	return out, nil
}

// namedTargets are the recipients of messages named by id, in portions that an
// event may touch.
type namedTargets struct {
	messages     uint64
	ready, tried uint64 // recipients
	events       [][]*pb.Target
	room         int // in the last of events
}

func (s *queueService) named(ctx context.Context, req *pb.OperateQueuedRequest) (*pb.Operation, namedTargets, error) {
	var named namedTargets
	if len(req.Ids) == 0 || len(req.Ids) > maxPage {
		return nil, named, invalid("ids", "%d ids: want 1 to %d", len(req.Ids), maxPage)
	}
	w, err := s.window(ctx)
	if err != nil {
		return nil, named, err
	}
	defer w.release()
	op, err := s.operation(ctx, w, req.Operation)
	if err != nil {
		return nil, named, err
	}
	seen := map[relay.MessageID]bool{}
	for _, text := range req.Ids {
		id, err := messageID(text)
		if err != nil {
			return nil, named, err
		}
		if seen[id] {
			continue
		}
		seen[id] = true
		if err := w.name(&named, op, id); err != nil {
			return nil, named, err
		}
	}
	return op, named, nil
}

// name adds the recipients of a message that an operation fits.
func (w window) name(named *namedTargets, op *pb.Operation, id relay.MessageID) error {
	m, recipients, err := w.read(id)
	if err != nil {
		return err
	}
	fits, refusal := false, ""
	for _, r := range recipients {
		if why := fsm.Refusal(op, m, r.RecipientRecord); why != "" {
			if refusal == "" {
				refusal = r.Recipient.GetAddress() + " " + why
			}
			continue
		}
		fits = true
		named.add(id, r.number)
		if r.Claim != nil {
			named.tried++
		} else {
			named.ready++
		}
	}
	if !fits {
		return precondition("STATE", id.String(), "%s doesn't fit message %s: %s", fsm.OperationWord(op.Kind), id, refusal)
	}
	named.messages++
	return nil
}

func (n *namedTargets) add(id relay.MessageID, number uint32) {
	if n.room == 0 {
		n.events = append(n.events, nil)
		n.room = maxTargets
	}
	n.room--
	last := len(n.events) - 1
	n.events[last] = fsm.AddTarget(n.events[last], id, number)
}
