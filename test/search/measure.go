package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "holdfast/proto/holdfast/v1"
)

// search is one to measure, with its limit: 100 ms for a narrow one, 500 ms for a
// page of a broad one.
type search struct {
	name   string
	limit  time.Duration
	filter *pb.MessageFilter
	header string
	reply  string
	oldest bool
	none   bool // nothing is to be found
}

const (
	narrow = 100 * time.Millisecond
	broad  = 500 * time.Millisecond
)

func (f *filler) searches() []search {
	middle := f.begin.Add(f.last.Sub(f.begin) / 2)
	hour := func(filter *pb.MessageFilter) *pb.MessageFilter {
		filter.Since, filter.Until = timestamppb.New(middle), timestamppb.New(middle.Add(time.Hour))
		return filter
	}
	state := func(s pb.RecipientState) []pb.RecipientState { return []pb.RecipientState{s} }
	n := f.messages / 3
	return []search{
		{name: "recipient", limit: narrow, filter: &pb.MessageFilter{To: f.recipient(n)}},
		{name: "sender", limit: narrow, filter: &pb.MessageFilter{From: f.sender(n)}},
		{name: "sender and recipient", limit: narrow, filter: &pb.MessageFilter{From: f.sender(n), To: f.recipient(n)}},
		{name: "Message-ID", limit: narrow, header: f.header(n)},
		{name: "sender of many, delivered, an hour", limit: narrow, filter: hour(&pb.MessageFilter{From: "<>", States: state(pb.RecipientState_RECIPIENT_STATE_DELIVERED)})},
		// None of the null sender's messages is, so all of the hour are read.
		{name: "sender of many, bounced, an hour", limit: narrow, none: true, filter: hour(&pb.MessageFilter{From: "<>", States: state(pb.RecipientState_RECIPIENT_STATE_BOUNCED)})},
		{name: "nobody", limit: narrow, filter: &pb.MessageFilter{To: "nobody@" + domainOf(0)}, none: true},
		{name: "all", limit: broad},
		{name: "all, oldest first", limit: broad, oldest: true},
		{name: "domain", limit: broad, filter: &pb.MessageFilter{Domain: domainOf(3)}},
		{name: "destination", limit: broad, filter: &pb.MessageFilter{Destination: destinationOf(3)}},
		{name: "bounced", limit: broad, filter: &pb.MessageFilter{States: state(pb.RecipientState_RECIPIENT_STATE_BOUNCED)}},
		{name: "pending, an hour", limit: broad, filter: hour(&pb.MessageFilter{States: state(pb.RecipientState_RECIPIENT_STATE_PENDING)})},
		{name: "sender's domain", limit: broad, filter: &pb.MessageFilter{From: "*@" + senderDomain}},
		{name: "reply text, an hour", limit: broad, filter: hour(&pb.MessageFilter{}), reply: "greylisted"},
	}
}

const runs = 11

// measure asks for each search's first page, and where it has one for its tenth,
// again and again: the middle and the longest time.
func measure(ctx context.Context, out io.Writer, log pb.LogServiceClient, searches []search) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "search\tpage\tfound\tmedian\tlongest\tlimit\t")
	missed := 0
	for _, s := range searches {
		token := ""
		for page := 1; page <= 10; page++ {
			var times []time.Duration
			var r *pb.SearchLogResponse
			for range runs {
				began := time.Now()
				var err error
				if r, err = log.SearchLog(ctx, &pb.SearchLogRequest{
					Filter: s.filter, HeaderMessageId: s.header, Reply: s.reply, OldestFirst: s.oldest, PageToken: token,
				}); err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				times = append(times, time.Since(began))
			}
			if page == 1 && (len(r.Messages) == 0) != s.none {
				return fmt.Errorf("%s: found %d messages", s.name, len(r.Messages))
			}
			slices.Sort(times)
			if page == 1 || page == 10 {
				fmt.Fprintf(t, "%s\t%d\t%d\t%v\t%v\t%v\t\n", s.name, page, len(r.Messages),
					times[runs/2].Round(10*time.Microsecond), times[runs-1].Round(10*time.Microsecond), s.limit)
			}
			if times[runs/2] > s.limit {
				missed++
			}
			if token = r.NextPageToken; token == "" {
				break
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if missed > 0 {
		return fmt.Errorf("%d pages took longer than their limit", missed)
	}
	return nil
}
