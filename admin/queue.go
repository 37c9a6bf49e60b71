package admin

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

type queueService struct {
	pb.UnimplementedQueueServiceServer
	*node
}

// lister is View.Queue or View.Log.
type lister func(f fsm.Filter, cursor []byte, limit int) ([]relay.MessageID, []byte, error)

// maxSearch ends a page whose filter matches little: the caller hears of it, and
// goes on with the next one.
const maxSearch = 200 * time.Millisecond

// page reads a page of messages of the queue.
func (w window) page(name string, list lister, filter *pb.MessageFilter, size uint32, token string) ([]*pb.Message, string, error) {
	f, err := queueFilter(filter, true)
	if err != nil {
		return nil, "", err
	}
	pages, err := w.listing(name, filter)
	if err != nil {
		return nil, "", err
	}
	return w.pageOf(pages, list, f, size, token)
}

// pageOf reads a page of a listing. It asks for few ids at a time, so that it can
// stop between two of them once the page is large enough, or has taken long.
func (w window) pageOf(pages listing, list lister, f fsm.Filter, size uint32, token string) ([]*pb.Message, string, error) {
	limit, err := pageSize(size)
	if err != nil {
		return nil, "", err
	}
	cursor, err := pages.cursor(token)
	if err != nil {
		return nil, "", err
	}
	messages, cursor, err := w.search(list, f, cursor, limit, time.Now().Add(maxSearch))
	if err != nil {
		return nil, "", err
	}
	return messages, pages.token(cursor), nil
}

// search reads on from a cursor, and returns where it stopped, nil at the end of
// the list. It looks at the time after the first batch only: each page gets on.
func (w window) search(list lister, f fsm.Filter, cursor []byte, limit int, until time.Time) ([]*pb.Message, []byte, error) {
	const batch = 16
	var messages []*pb.Message
	for bytes := 0; ; {
		asked := min(batch, limit-len(messages))
		ids, next, err := list(f, cursor, asked)
		if err != nil {
			return nil, nil, readError(err, "the list of messages")
		}
		for _, id := range ids {
			m, _, err := w.message(id)
			if err != nil {
				return nil, nil, err
			}
			messages = append(messages, m)
			bytes += proto.Size(m)
		}
		cursor = next
		if cursor == nil || len(messages) >= limit || bytes >= maxPageBytes || !time.Now().Before(until) {
			return messages, cursor, nil
		}
	}
}

func (s *queueService) ListQueue(ctx context.Context, req *pb.ListQueueRequest) (*pb.ListQueueResponse, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	stale := !w.quorum
	name, err := w.rewind("queue", req.At)
	if err != nil {
		return nil, err
	}
	messages, next, err := w.page(name, w.Queue, req.Filter, req.PageSize, req.PageToken)
	if err != nil {
		return nil, err
	}
	return &pb.ListQueueResponse{Messages: messages, NextPageToken: next, Stale: stale, Index: w.Index()}, nil
}

func (s *queueService) GetQueued(ctx context.Context, req *pb.GetQueuedRequest) (*pb.GetQueuedResponse, error) {
	id, err := messageID(req.Id)
	if err != nil {
		return nil, err
	}
	w, err := s.closeLook(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	m, recipients, err := w.message(id)
	if err != nil {
		return nil, err
	}
	if !open(recipients) {
		return nil, notFound("message", req.Id, fmt.Sprintf("message %s is not in the queue any more; `holdfast log show %s` shows what became of it", id, id))
	}
	return &pb.GetQueuedResponse{Message: m, Stale: !w.quorum}, nil
}

func messageID(s string) (relay.MessageID, error) {
	id, err := relay.ParseMessageID(s)
	if err != nil {
		return id, invalid("id", "%v", err)
	}
	return id, nil
}

// open reports whether a message is in the queue.
func open(recipients []recipient) bool {
	for _, r := range recipients {
		if waiting(r.RecipientRecord) || r.State == pb.RecipientState_RECIPIENT_STATE_FROZEN {
			return true
		}
	}
	return false
}
