package admin

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// CountQueue answers from the counters where they have it, and reads the queue
// for any other filter.
func (s *queueService) CountQueue(ctx context.Context, req *pb.CountQueueRequest) (*pb.CountQueueResponse, error) {
	f, err := queueFilter(req.Filter, false)
	if err != nil {
		return nil, err
	}
	if req.By != pb.CountQueueRequest_BY_UNSPECIFIED && !isEmpty(f) {
		return nil, invalid("by", "counting by domain or destination goes without a filter")
	}
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	out := &pb.CountQueueResponse{Stale: !w.quorum}
	if req.At != nil {
		if req.By != pb.CountQueueRequest_BY_UNSPECIFIED {
			return nil, invalid("by", "counting by domain or destination goes without a past point")
		}
		if _, err := w.rewind("queue", req.At); err != nil {
			return nil, err
		}
		count, err := w.countByReading(ctx, f)
		if err != nil {
			return nil, err
		}
		out.Rows = []*pb.CountQueueResponse_Row{{Count: count}}
		return out, nil
	}
	switch req.By {
	case pb.CountQueueRequest_BY_DOMAIN:
		configured := names(w.Domains(), (*pb.DomainConfig).GetName)
		out.Rows = countRows(configured, w.CountedDomains(), w.DomainCounter)
	case pb.CountQueueRequest_BY_DESTINATION:
		if w.caller.limited() {
			return nil, status.Error(codes.PermissionDenied,
				"counts by destination have others' mail in them: count by domain, or with a filter by destination")
		}
		configured := names(w.Destinations(), func(d *pb.DestinationRecord) string { return d.Config.GetName() })
		out.Rows = countRows(configured, w.CountedDestinations(), w.DestinationCounter)
	case pb.CountQueueRequest_BY_UNSPECIFIED:
		count, err := w.count(ctx, f)
		if err != nil {
			return nil, err
		}
		out.Rows = []*pb.CountQueueResponse_Row{{Count: count}}
	default:
		return nil, invalid("by", "by %d is unknown", req.By)
	}
	return out, nil
}

// countRows has a row for all that is configured, and for all else that has
// something to count, so that the rows add up to the count of all.
func countRows(configured, counted []string, counter func(string) *pb.CounterRecord) []*pb.CountQueueResponse_Row {
	all := slices.Concat(configured, counted)
	slices.Sort(all)
	var rows []*pb.CountQueueResponse_Row
	for _, name := range slices.Compact(all) {
		c := queueCount(counter(name))
		if _, found := slices.BinarySearch(configured, name); found || proto.Size(c) > 0 {
			rows = append(rows, &pb.CountQueueResponse_Row{Name: name, Count: c})
		}
	}
	return rows
}

func names[T any](records []T, name func(T) string) []string {
	all := make([]string, len(records))
	for i, record := range records {
		all[i] = name(record)
	}
	return all
}

func (w window) count(ctx context.Context, f fsm.Filter) (*pb.QueueCount, error) {
	domain, destination := f.Domain, f.Destination
	rest := f
	rest.Domain, rest.Destination = "", ""
	switch {
	case !isEmpty(rest), domain != "" && destination != "":
		return w.countByReading(ctx, f)
	case domain != "":
		return w.countDomain(domain)
	case destination != "" && w.caller.limited():
		return w.countByReading(ctx, f) // its counter has others' mail too
	case destination != "":
		return queueCount(w.DestinationCounter(destination)), nil
	}
	return queueCount(w.Counters()), nil
}

// countDomain counts what is frozen by its rows: the counter has no reports that went to
// the domain while it wasn't configured, which share one with all such domains.
func (w window) countDomain(domain string) (*pb.QueueCount, error) {
	count := queueCount(w.DomainCounter(domain))
	if !w.caller.sees(domain) {
		return count, nil
	}
	frozen, err := w.Frozen(domain)
	if err != nil {
		return nil, readError(err, "the queue")
	}
	count.Failed += frozen - count.Frozen
	count.Frozen = frozen
	return count, nil
}

func (w window) countByReading(ctx context.Context, f fsm.Filter) (*pb.QueueCount, error) {
	count := &pb.QueueCount{}
	var cursor []byte
	for {
		ids, next, err := w.Queue(f, cursor, maxPage)
		if err != nil {
			return nil, readError(err, "the queue")
		}
		for _, id := range ids {
			recipients, err := w.Recipients(id)
			if err != nil {
				return nil, readError(err, id.String())
			}
			for _, r := range recipients {
				if f.MatchesRecipient(r.RecipientRecord) {
					addTo(count, r.RecipientRecord)
				}
			}
		}
		if cursor = next; cursor == nil {
			return count, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, proposeError(err)
		}
	}
}

// addTo counts an open recipient.
func addTo(count *pb.QueueCount, r *pb.RecipientRecord) {
	switch r.State {
	case pb.RecipientState_RECIPIENT_STATE_PENDING:
		count.Pending++
	case pb.RecipientState_RECIPIENT_STATE_HELD:
		count.Held++
	case pb.RecipientState_RECIPIENT_STATE_FROZEN:
		count.Frozen++
		count.Failed++
	default:
		return
	}
	if r.InDoubt > 0 {
		count.InDoubt++
	}
}

// queueCount puts a counter into users' words: Failed is returned, dropped,
// deleted or frozen.
func queueCount(c *pb.CounterRecord) *pb.QueueCount {
	return &pb.QueueCount{
		Pending:   c.GetPending(),
		Held:      c.GetHeld(),
		Frozen:    c.GetFrozen(),
		InDoubt:   c.GetInDoubt(),
		Delivered: c.GetDelivered(),
		Failed:    c.GetEnded() + c.GetFrozen(),
	}
}
