package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

const (
	// previewPiece is how many recipients a preview counts at a time.
	previewPiece = 1000
	// sampleSize is how many messages a preview shows.
	sampleSize = 5
	// watchPoll is the time between looks at a bulk operation's progress.
	watchPoll = 100 * time.Millisecond
)

// PreviewBulk cuts the same pieces as the operation would at this index, and
// proposes none. What the operation would leave out isn't counted with the rest.
func (s *queueService) PreviewBulk(req *pb.PreviewBulkRequest, stream grpc.ServerStreamingServer[pb.PreviewBulkResponse]) error {
	w, err := s.window(stream.Context())
	if err != nil {
		return err
	}
	defer w.release()
	op, err := s.operation(stream.Context(), w, req.Operation)
	if err != nil {
		return err
	}
	f, err := bulkFilter(req.Filter, op.Kind)
	if err != nil {
		return err
	}
	out := &pb.PreviewBulkResponse{Stale: !w.quorum, Index: w.Index()}
	bulk := &pb.BulkRecord{Filter: fsm.NewBulkFilter(f), Operation: op, Limit: req.Limit, Index: w.Index()}
	for piece, err := range w.PreviewBulk(bulk, previewPiece) {
		if err != nil {
			return readError(err, "the queue")
		}
		if err := w.sample(out, piece); err != nil {
			return err
		}
		out.Messages, out.Recipients, out.Finished = bulk.Messages, bulk.Changed, piece.Finished
		out.Refused, out.Refusal = bulk.Refused, bulk.Refusal
		if err := stream.Send(proto.CloneOf(out)); err != nil {
			return err
		}
	}
	return nil
}

// sample adds the first messages that an operation would hit.
func (w window) sample(out *pb.PreviewBulkResponse, piece *pb.BulkProgressed) error {
	for _, target := range piece.Targets {
		id := relay.MessageID(target.MessageId)
		if len(out.Sample) == sampleSize || slices.ContainsFunc(out.Sample, func(m *pb.Message) bool { return m.Id == id.String() }) {
			continue
		}
		m, recipients, err := w.message(id)
		if err != nil {
			return err
		}
		var hit []*pb.MessageRecipient
		for i, r := range recipients {
			if slices.Contains(target.Recipients, r.number) {
				hit = append(hit, m.Recipients[i])
			}
		}
		m.Recipients = hit
		out.Sample = append(out.Sample, m)
	}
	return nil
}

// StartBulk returns once the operation is in the log; the leader carries it on. Its id
// comes back also where this node is behind: begun a second time it would hit others.
func (s *queueService) StartBulk(ctx context.Context, req *pb.StartBulkRequest) (*pb.StartBulkResponse, error) {
	op, f, err := s.bulk(ctx, req)
	if err != nil {
		return nil, err
	}
	id, err := relay.NewMessageID(s.Now(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("new id: %w", err)
	}
	index, err := s.propose(ctx, &pb.Event{Kind: &pb.Event_BulkStarted{BulkStarted: &pb.BulkStarted{
		BulkId: id[:], Filter: fsm.NewBulkFilter(f), Operation: op, Limit: req.Limit, Expected: req.Expected,
		Index: req.Index,
	}}}, fmt.Sprintf("bulk %s %s", fsm.OperationWord(op.Kind), id))
	if err != nil {
		return nil, lookFirst(err, fmt.Sprintf("`holdfast queue operations`: if it began it is %s, and a second one would hit further messages", id))
	}
	return &pb.StartBulkResponse{BulkId: id.String(), Index: index, Unconfirmed: unconfirmed(s.applied(ctx, index))}, nil
}

func (s *queueService) bulk(ctx context.Context, req *pb.StartBulkRequest) (*pb.Operation, fsm.Filter, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, fsm.Filter{}, err
	}
	defer w.release()
	op, err := s.operation(ctx, w, req.Operation)
	if err != nil {
		return nil, fsm.Filter{}, err
	}
	given, err := toFilter(req.Filter)
	if err != nil {
		return nil, fsm.Filter{}, err
	}
	switch {
	case isEmpty(given) && !req.All:
		return nil, fsm.Filter{}, invalid("filter", "no filter; all confirms that the whole queue is meant")
	case !isEmpty(given) && req.All:
		return nil, fsm.Filter{}, invalid("all", "a filter and all contradict each other: give one of them")
	}
	f, err := bulkFilter(req.Filter, op.Kind)
	return op, f, err
}

// WatchBulk reads this node's own state, once that has the operation: a change of
// leader doesn't end it.
func (s *queueService) WatchBulk(req *pb.WatchBulkRequest, stream grpc.ServerStreamingServer[pb.WatchBulkResponse]) error {
	id, err := messageID(req.BulkId)
	if err != nil {
		return err
	}
	switch err := s.State.WaitApplied(stream.Context(), req.Index); {
	case stream.Context().Err() != nil:
		return stream.Context().Err()
	case err != nil:
		return readError(err, "the bulk operation")
	}
	ticker := time.NewTicker(watchPoll)
	defer ticker.Stop()
	for last := (*pb.Bulk)(nil); ; {
		bulk, err := s.readBulk(stream.Context(), id)
		if err != nil {
			return err
		}
		if !proto.Equal(last, bulk) {
			if err := stream.Send(&pb.WatchBulkResponse{Bulk: bulk}); err != nil {
				return err
			}
			last = bulk
		}
		if bulk.FinishedAt != nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func (s *queueService) readBulk(ctx context.Context, id relay.MessageID) (*pb.Bulk, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	r, err := w.Bulk(id)
	if err == nil && !w.seesBulk(r) {
		err = fsm.ErrNotFound
	}
	if errors.Is(err, fsm.ErrNotFound) {
		return nil, notFound("bulk", id.String(), fmt.Sprintf("no bulk operation %s", id))
	}
	if err != nil {
		return nil, readError(err, "the bulk operation")
	}
	return shownBulk(id, r), nil
}

func shownBulk(id relay.MessageID, r *pb.BulkRecord) *pb.Bulk {
	return &pb.Bulk{
		Id: id.String(), Kind: r.Operation.GetKind(), By: r.Operation.GetBy(), Reason: r.Operation.GetReason(),
		Index: r.Index, StartedAt: timestamp(r.StartedAt), FinishedAt: timestamp(r.FinishedAt),
		Messages: r.Messages, Recipients: r.Changed, Waiting: r.Waiting,
		Refused: r.Refused, Refusal: r.Refusal, Expected: r.Expected, Failure: r.Failure, Filter: shownFilter(r.Filter),
		Stopped: r.Stopped, StoppedBy: r.StoppedBy, StopReason: r.StopReason,
		Limit: r.Limit, Destination: r.Operation.GetDestination(), Address: r.Operation.GetAddress(), Domains: r.Operation.GetDomains(),
	}
}

// shownFilter is the filter of an operation as it was given, with the states that
// the operation is for.
func shownFilter(b *pb.BulkFilter) *pb.MessageFilter {
	f := &pb.MessageFilter{
		Domain: b.GetDomain(), Destination: b.GetDestination(), From: b.GetFrom(), To: b.GetTo(),
		Since: timestamp(b.GetSince()), Until: timestamp(b.GetUntil()),
	}
	for _, state := range b.GetStates() {
		f.States = append(f.States, pb.RecipientState(state))
	}
	return f
}

// ListBulks shows a limited caller those that WatchBulk does.
func (s *queueService) ListBulks(ctx context.Context, _ *pb.ListBulksRequest) (*pb.ListBulksResponse, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	all, err := w.Bulks()
	if err != nil {
		return nil, readError(err, "the bulk operations")
	}
	out := &pb.ListBulksResponse{Stale: !w.quorum}
	for _, bulk := range all {
		if w.seesBulk(bulk.Record) {
			out.Bulks = append(out.Bulks, shownBulk(bulk.ID, bulk.Record))
		}
	}
	return out, nil
}

// seesBulk: a limited caller sees the operations of those who are limited to the
// same domains, or to some of them.
func (w window) seesBulk(r *pb.BulkRecord) bool {
	if !w.caller.limited() {
		return true
	}
	domains := r.Operation.GetDomains()
	return len(domains) > 0 && !slices.ContainsFunc(domains, func(d string) bool { return !w.caller.sees(d) })
}
