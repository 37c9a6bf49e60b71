package admin

import (
	"cmp"
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// RetryQueued makes pending recipients due now, and held ones of messages that
// are named by id, up to 1,000 messages a call, as an event touches no more.
func (s *queueService) RetryQueued(ctx context.Context, req *pb.RetryQueuedRequest) (*pb.RetryQueuedResponse, error) {
	f, err := toFilter(req.Filter)
	if err != nil {
		return nil, err
	}
	var found batch
	byID := len(req.Ids) > 0
	switch {
	case byID && (req.All || !isEmpty(f)):
		return nil, invalid("ids", "give ids, or a filter, or all: not several of them")
	case byID:
		found, err = s.findByID(req.Ids)
	case isEmpty(f) && !req.All:
		return nil, invalid("filter", "neither ids nor a filter; all retries the whole queue")
	default:
		found, err = s.findByFilter(f, req)
	}
	if err != nil {
		return nil, err
	}
	if len(found.ids) > 0 && !req.DryRun {
		event := &pb.Event{Kind: &pb.Event_RetryRequested{RetryRequested: &pb.RetryRequested{MessageIds: found.ids, ReleaseHeld: byID}}}
		index, err := s.propose(ctx, event, fmt.Sprintf("retry of %d messages", len(found.ids)))
		if status.Code(err) == codes.NotFound {
			// All of them were claimed, or ended, between the view and the event.
			return &pb.RetryQueuedResponse{NextPageToken: found.next}, nil
		}
		if err != nil {
			return nil, err
		}
		// The caller may look at once, and wants to see what it did.
		if err := s.applied(ctx, index); err != nil {
			return nil, err
		}
	}
	return &pb.RetryQueuedResponse{Messages: uint64(len(found.ids)), Recipients: found.recipients, NextPageToken: found.next}, nil
}

// batch is the messages of one call.
type batch struct {
	ids        [][]byte
	recipients uint64 // those that match and aren't being tried already
	next       string // page token
}

// add takes a message that has recipients in the filter's states, which are the
// ones that can be retried.
func (b *batch) add(id relay.MessageID, recipients []*pb.RecipientRecord, f fsm.Filter) bool {
	var matching uint64
	for _, r := range recipients {
		if r.Claim == nil && f.MatchesRecipient(r) {
			matching++
		}
	}
	if matching == 0 {
		return false
	}
	b.ids = append(b.ids, id[:])
	b.recipients += matching
	return true
}

// retriedByID: whoever names a held message has looked at it.
var retriedByID = fsm.Filter{States: []pb.RecipientState{
	pb.RecipientState_RECIPIENT_STATE_PENDING, pb.RecipientState_RECIPIENT_STATE_HELD,
}}

// findByID wants every id to be one that can be retried, before any is.
func (s *queueService) findByID(ids []string) (batch, error) {
	var b batch
	if len(ids) > maxPage {
		return b, invalid("ids", "%d ids: %d at most", len(ids), maxPage)
	}
	w, err := s.window()
	if err != nil {
		return b, err
	}
	defer w.release()
	seen := map[relay.MessageID]bool{}
	for _, text := range ids {
		id, err := messageID(text)
		if err != nil {
			return b, err
		}
		if seen[id] {
			continue
		}
		seen[id] = true
		m, recipients, err := w.message(id)
		if err != nil {
			return b, err
		}
		if b.add(id, recipients, retriedByID) {
			continue
		}
		if m.State == pb.RecipientState_RECIPIENT_STATE_PENDING {
			return b, precondition("CLAIMED", id.String(), "message %s is being tried right now", id)
		}
		return b, precondition("PENDING", id.String(), "message %s has no pending or held recipient, it is %s", id, stateName(m.State))
	}
	return b, nil
}

func (s *queueService) findByFilter(f fsm.Filter, req *pb.RetryQueuedRequest) (batch, error) {
	var b batch
	limit, err := pageSize(cmp.Or(req.PageSize, maxPage))
	if err != nil {
		return b, err
	}
	pages, err := listingOf("retry", req.Filter)
	if err != nil {
		return b, err
	}
	cursor, err := pages.cursor(req.PageToken)
	if err != nil {
		return b, err
	}
	for _, state := range f.States {
		if state != pb.RecipientState_RECIPIENT_STATE_PENDING {
			return b, invalid("filter.states", "only pending recipients are retried by filter, not %s ones; name held messages by id", stateName(state))
		}
	}
	f.States = []pb.RecipientState{pb.RecipientState_RECIPIENT_STATE_PENDING}
	w, err := s.window()
	if err != nil {
		return b, err
	}
	defer w.release()
	ids, next, err := w.Queue(f, cursor, limit)
	if err != nil {
		return b, readError(err, "the queue")
	}
	for _, id := range ids {
		recipients, err := w.Recipients(id)
		if err != nil {
			return b, readError(err, id.String())
		}
		b.add(id, recipients, f)
	}
	b.next = pages.token(next)
	return b, nil
}
