package admin

import (
	"context"
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

func (s *logService) SearchLog(_ context.Context, req *pb.SearchLogRequest) (*pb.SearchLogResponse, error) {
	w, err := s.window()
	if err != nil {
		return nil, err
	}
	defer w.release()
	messages, next, err := w.page("log", w.Log, req.Filter, req.PageSize, req.PageToken)
	if err != nil {
		return nil, err
	}
	return &pb.SearchLogResponse{Messages: messages, NextPageToken: next, Stale: !w.quorum}, nil
}

func (s *logService) GetLog(_ context.Context, req *pb.GetLogRequest) (*pb.GetLogResponse, error) {
	id, err := messageID(req.Id)
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(req.PageSize)
	if err != nil {
		return nil, err
	}
	pages := listing("history " + id.String())
	from, err := pages.position(req.PageToken)
	if err != nil {
		return nil, err
	}
	w, err := s.window()
	if err != nil {
		return nil, err
	}
	defer w.release()
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
		entry := historyEntry(row, recipients)
		out.History = append(out.History, entry)
		bytes += proto.Size(entry)
	}
	return out, nil
}

func historyEntry(at fsm.HistoryRow, recipients []*pb.RecipientRecord) *pb.HistoryEntry {
	row := at.Record
	entry := &pb.HistoryEntry{
		Kind:        row.Kind,
		Index:       at.Index,
		Row:         at.Row,
		Time:        timestamp(row.Time),
		Node:        row.Node,
		Host:        row.Attempt.GetHost(),
		Tls:         row.Attempt.GetTls(),
		Error:       deliveryError(row.Failure),
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
	for _, number := range row.Recipients {
		if int(number) < len(recipients) {
			entry.Recipients = append(entry.Recipients, recipients[number].Recipient.GetAddress())
		}
	}
	if report, err := relay.MessageIDFromBytes(row.Report); err == nil {
		entry.Report = report.String()
	}
	return entry
}
