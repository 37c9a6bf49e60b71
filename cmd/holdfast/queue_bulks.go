package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

// States of an operation on all that a filter picks.
const (
	bulkRunning  = "running"
	bulkFinished = "finished"
	bulkFailed   = "failed"
	bulkStopped  = "stopped"
)

type bulkJSON struct {
	ID         string         `json:"id"`
	Operation  string         `json:"operation"`
	Filter     bulkFilterJSON `json:"filter"`
	State      string         `json:"state"`
	By         string         `json:"by"`
	Reason     *string        `json:"reason"`
	Index      uint64         `json:"index"`
	StartedAt  *string        `json:"startedAt"`
	FinishedAt *string        `json:"finishedAt"`
	Messages   uint64         `json:"messages"`
	Recipients uint64         `json:"recipients"`
	Waiting    uint64         `json:"waiting"`
	Refused    uint64         `json:"refused"`
	Refusal    *string        `json:"refusal"`
	Expected   *uint64        `json:"expected"`
	Failure    *string        `json:"failure"`
	StoppedBy  *string        `json:"stoppedBy"`
	StopReason *string        `json:"stopReason"`
	Limit      *uint64        `json:"limit"`
	// Where a redirection sends them.
	DestinationNew *string `json:"destinationNew"`
	RcptNew        *string `json:"rcptNew"`
	// Of a token limited to domains.
	Domains []string `json:"domains"`
}

type bulkFilterJSON struct {
	Domain      *string  `json:"domain"`
	Destination *string  `json:"destination"`
	From        *string  `json:"from"`
	To          *string  `json:"to"`
	States      []string `json:"states"`
	Since       *string  `json:"since"`
	Until       *string  `json:"until"`
}

func (a *app) queueOperationsCommand() *cobra.Command {
	var flags watchFlags
	cmd := &cobra.Command{
		Use:   "operations",
		Short: "List operations that hit many messages, or stop one",
		Long: `List operations by filter or --all, such as "holdfast queue delete --domain
example.com": those under way, and the latest 50 that have ended, oldest first. The
cluster carries them on whatever becomes of the command that began them.

One that failed ended where it stood: what it had changed by then stays changed, and
the reason is shown. The same command begins it anew. One that shouldn't go on is
ended by "holdfast queue operations stop ID".`,
		Example: `  holdfast queue operations
  holdfast queue operations --watch`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.show(cmd, flags, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewQueueServiceClient(conn).ListBulks(ctx, &pb.ListBulksRequest{})
				if err != nil {
					return err
				}
				a.warnStale(r.Stale)
				if flags.asJSON {
					return a.writeBulks(r.Bulks)
				}
				return a.showBulks(r.Bulks)
			})
		},
	}
	flags.add(cmd)
	cmd.AddCommand(a.queueOperationsStopCommand())
	return cmd
}

func bulkState(b *pb.Bulk) cell {
	switch {
	case b.Failure != "":
		return cell{bulkFailed, red}
	case b.Stopped:
		return cell{bulkStopped, yellow}
	case b.FinishedAt != nil:
		return cell{bulkFinished, green}
	}
	return cell{bulkRunning, plain}
}

func operationWord(kind pb.Operation_Kind) string { return operation{kind: kind}.word() }

// runningBulks are the operations that can be stopped.
func runningBulks(ctx context.Context, conn *grpc.ClientConn, _ string) (found []cobra.Completion, err error) {
	r, err := pb.NewQueueServiceClient(conn).ListBulks(ctx, &pb.ListBulksRequest{})
	for _, b := range r.GetBulks() {
		if b.FinishedAt == nil {
			found = append(found, described(b.Id, operationWord(b.Kind)+" "+hit(b)))
		}
	}
	return found, err
}

func (a *app) writeBulks(bulks []*pb.Bulk) error {
	for _, b := range bulks {
		f := b.Filter
		line := bulkJSON{
			ID: b.Id, Operation: operationWord(b.Kind), State: bulkState(b).text, By: b.By, Reason: orNull(b.Reason),
			Index: b.Index, StartedAt: timeJSON(b.StartedAt), FinishedAt: timeJSON(b.FinishedAt),
			Messages: b.Messages, Recipients: b.Recipients, Waiting: b.Waiting, Refused: b.Refused, Refusal: orNull(b.Refusal),
			Expected: orNull(b.Expected), Failure: orNull(b.Failure),
			StoppedBy: orNull(b.StoppedBy), StopReason: orNull(b.StopReason), Limit: orNull(b.Limit),
			DestinationNew: orNull(b.Destination), RcptNew: orNull(b.Address), Domains: append([]string{}, b.Domains...),
			Filter: bulkFilterJSON{
				Domain: orNull(f.GetDomain()), Destination: orNull(f.GetDestination()), From: orNull(f.GetFrom()), To: orNull(f.GetTo()),
				States: stateNames(f.GetStates()), Since: timeJSON(f.GetSince()), Until: timeJSON(f.GetUntil()),
			},
		}
		if err := a.writeJSON(line); err != nil {
			return err
		}
	}
	return nil
}

func stateNames(states []pb.RecipientState) []string {
	words := []string{}
	for _, state := range states {
		words = append(words, stateWord(state))
	}
	return words
}

func (a *app) showBulks(bulks []*pb.Bulk) error {
	t := newTable(a.out)
	t.header("ID", "OPERATION", "ON", "STARTED", "BY", "STATE", "MESSAGES", "RECIPIENTS", "DETAIL")
	for _, b := range bulks {
		t.row(b.Id, operationWord(b.Kind), hit(b), a.when(b.StartedAt), b.By, bulkState(b), b.Messages, b.Recipients, bulkDetail(b))
	}
	return t.flush()
}

// hit is what an operation is for, in the words of the command line.
func hit(b *pb.Bulk) string {
	text := picked(b.Filter)
	if b.Limit > 0 {
		text += fmt.Sprintf(" --limit %d", b.Limit)
	}
	if len(b.Domains) > 0 {
		text += ", only of " + strings.Join(b.Domains, ", ")
	}
	return text
}

// picked is a filter in the words of the command line.
func picked(f *pb.MessageFilter) string {
	var parts []string
	for _, p := range []struct{ flag, value string }{
		{"domain", f.GetDomain()}, {"destination", f.GetDestination()}, {"from", f.GetFrom()}, {"to", f.GetTo()},
		{"state", strings.Join(stateNames(f.GetStates()), ",")},
		{"since", orEmpty(timeJSON(f.GetSince()))}, {"until", orEmpty(timeJSON(f.GetUntil()))},
	} {
		if p.value != "" {
			parts = append(parts, "--"+p.flag+" "+p.value)
		}
	}
	return strings.Join(parts, " ")
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func bulkDetail(b *pb.Bulk) string {
	var parts []string
	if target := b.Destination + b.Address; target != "" {
		parts = append(parts, "to "+target)
	}
	if b.Failure != "" {
		parts = append(parts, b.Failure)
	}
	if b.Stopped {
		parts = append(parts, stoppedBy(b))
	}
	if b.Waiting > 0 {
		parts = append(parts, plural(b.Waiting, "recipient")+" more as the attempt under way fails")
	}
	if b.Refused > 0 {
		parts = append(parts, plural(b.Refused, "recipient")+" left out, the first because "+b.Refusal)
	}
	if b.Reason != "" {
		parts = append(parts, "reason: "+b.Reason)
	}
	return dash(strings.Join(parts, "; "))
}
