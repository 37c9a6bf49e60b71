package admin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

type logService struct {
	pb.UnimplementedLogServiceServer
	*node
}

func (s *logService) SearchLog(ctx context.Context, req *pb.SearchLogRequest) (*pb.SearchLogResponse, error) {
	f, err := toFilter(req.Filter)
	if err != nil {
		return nil, err
	}
	if req.Reply != "" && f.Since.IsZero() {
		return nil, invalid("filter.since", "searching by reply reads every message of the time: say since when")
	}
	f.HeaderMessageID, f.Reply, f.OldestFirst = req.HeaderMessageId, req.Reply, req.OldestFirst
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	pages, err := w.listing(fmt.Sprintf("log %q %q %v", req.HeaderMessageId, req.Reply, req.OldestFirst), req.Filter)
	if err != nil {
		return nil, err
	}
	messages, next, err := w.pageOf(pages, w.Log, f, req.PageSize, req.PageToken)
	if err != nil {
		return nil, err
	}
	return &pb.SearchLogResponse{Messages: messages, NextPageToken: next, Stale: !w.quorum}, nil
}

func (s *logService) GetLog(ctx context.Context, req *pb.GetLogRequest) (*pb.GetLogResponse, error) {
	id, err := messageID(req.Id)
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(req.PageSize)
	if err != nil {
		return nil, err
	}
	w, err := s.closeLook(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	pages := w.listingOfNames("history " + id.String())
	from, err := pages.position(req.PageToken)
	if err != nil {
		return nil, err
	}
	m, recipients, err := w.message(id)
	if err != nil {
		return nil, err
	}
	rows, err := w.History(id, from, limit+1)
	if err != nil {
		return nil, readError(err, id.String())
	}
	out := &pb.GetLogResponse{Message: m, Stale: !w.quorum}
	bytes := proto.Size(m)
	for i, row := range rows {
		if i == limit || i > 0 && bytes > maxPageBytes {
			out.NextPageToken = pages.token(positionKey(row.Position))
			break
		}
		addresses, err := w.rowAddresses(id, row)
		if err != nil {
			return nil, err
		}
		if len(addresses) == 0 && w.caller.limited() {
			continue // of others
		}
		entry := historyEntry(row, addresses)
		w.correctPromise(entry, row.Record, recipients)
		out.History = append(out.History, entry)
		bytes += proto.Size(entry)
	}
	return out, nil
}

// correctPromise is about the failure that a pending recipient's next attempt comes
// from: what it promised is kept only as far as the destination lets it.
func (w window) correctPromise(entry *pb.HistoryEntry, row *pb.HistoryRecord, recipients []recipient) {
	if row.Kind != pb.HistoryRecord_KIND_ATTEMPT_FAILED {
		return
	}
	for _, r := range recipients {
		if r.State != pb.RecipientState_RECIPIENT_STATE_PENDING || r.Claim != nil || r.Ordered != nil ||
			r.NextAttempt != row.NextAttempt || !slices.Contains(row.Recipients, r.number) {
			continue
		}
		if at, instead := w.nextTry(r.RecipientRecord); instead != "" {
			entry.NextAttempt, entry.Text = at, instead
		}
	}
}

func historyEntry(at fsm.HistoryRow, addresses []string) *pb.HistoryEntry {
	row := at.Record
	entry := &pb.HistoryEntry{
		Kind:        row.Kind,
		Index:       at.Index,
		Row:         at.Row,
		Time:        timestamp(row.Time),
		Node:        row.Node,
		Host:        row.Attempt.GetHost(),
		Address:     row.Attempt.GetAddress(),
		Tls:         row.Attempt.GetTls(),
		Error:       deliveryError(row.Failure),
		Recipients:  addresses,
		NextAttempt: timestamp(row.NextAttempt),
		Text:        row.Text,
		By:          row.By,
		Reason:      row.Reason,
	}
	if row.Attempt != nil {
		entry.Duration = durationpb.New(time.Duration(row.Attempt.Duration))
		if entry.Node == "" {
			entry.Node = row.Attempt.Node
		}
	}
	if report, err := relay.MessageIDFromBytes(row.Report); err == nil {
		entry.Report = report.String()
	}
	return entry
}
