package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

type retryCommand struct {
	*app
	filter           filterFlags
	all, yes, dryRun bool
}

func (a *app) queueRetryCommand() *cobra.Command {
	r := &retryCommand{app: a}
	cmd := &cobra.Command{
		Use:   "retry (ID... | --all | FILTER)",
		Short: "Try pending messages now",
		Long: `Make pending recipients due now: of the messages named, of those that a filter
picks, or of all. A destination that is down is probed now, and its mail follows
once it is back; the slots of a destination are never exceeded. In this version
all pending recipients of a message are tried, also those that the filter
doesn't pick. A held message goes back to the queue only where its ID is given:
two nodes died over it.

A filter or --all shows how many messages it means and some of them, and asks.
--yes answers in advance, --dry-run only counts.
` + filterHelp,
		Example: `  holdfast queue retry 01KAP4T8B3Q6W5CEXJ2MRZ7HDV
  holdfast queue retry --domain example.com --dry-run
  holdfast queue retry --all --yes`,
		RunE: func(cmd *cobra.Command, args []string) error { return r.run(cmd, args) },
	}
	r.filter.add(cmd)
	cmd.Flags().BoolVar(&r.all, "all", false, "the whole queue")
	cmd.Flags().BoolVar(&r.yes, "yes", false, "don't ask")
	cmd.Flags().BoolVar(&r.dryRun, "dry-run", false, "only count")
	return cmd
}

func (r *retryCommand) run(cmd *cobra.Command, ids []string) error {
	f, err := r.filter.filter(r.app)
	if err != nil {
		return err
	}
	switch {
	case len(ids) > 0 && (f != nil || r.all || r.filter.limit > 0):
		return usage("give message ids, or a filter, or --all: not several of them")
	case len(ids) == 0 && f == nil && !r.all:
		return usage("say what to retry: message ids, a filter, or --all")
	case f != nil && r.all:
		return usage("--all and a filter contradict each other: give one of them")
	case len(ids) == 0 && !r.yes && !r.dryRun && !r.terminal():
		return usage("nobody is there to confirm: add --yes, or --dry-run to count only")
	}
	return r.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
		queue := pb.NewQueueServiceClient(conn)
		if len(ids) > 0 {
			return r.byID(ctx, queue, ids)
		}
		return r.byFilter(ctx, queue, f)
	})
}

// byID sends ids in portions that one event may touch.
func (r *retryCommand) byID(ctx context.Context, queue pb.QueueServiceClient, ids []string) error {
	const most = 1000
	var done count
	for len(ids) > 0 {
		n := min(most, len(ids))
		answer, err := queue.RetryQueued(ctx, &pb.RetryQueuedRequest{Ids: ids[:n], DryRun: r.dryRun})
		if err != nil {
			return done.wrap(err)
		}
		done.add(answer)
		ids = ids[n:]
	}
	return r.report(done)
}

func (r *retryCommand) byFilter(ctx context.Context, queue pb.QueueServiceClient, f *pb.MessageFilter) error {
	if r.yes || r.dryRun {
		done, err := r.pages(ctx, queue, f, r.dryRun)
		if err != nil {
			return done.wrap(err)
		}
		return r.report(done)
	}
	meant, err := r.pages(ctx, queue, f, true)
	if err != nil {
		return err
	}
	if meant.messages == 0 {
		fmt.Fprintln(r.out, "no message matches")
		return nil
	}
	if err := r.sample(ctx, queue, f, meant); err != nil {
		return err
	}
	if yes, err := r.confirmed(); err != nil || !yes {
		return errors.Join(err, errors.New("not confirmed, nothing was changed"))
	}
	done, err := r.pages(ctx, queue, f, false)
	if err != nil {
		return done.wrap(err)
	}
	return r.report(done)
}

// pages goes through all that the filter picks, one event's worth at a time.
func (r *retryCommand) pages(ctx context.Context, queue pb.QueueServiceClient, f *pb.MessageFilter, dryRun bool) (count, error) {
	const most = 1000
	var done count
	for token := ""; ; {
		req := &pb.RetryQueuedRequest{Filter: f, All: r.all, DryRun: dryRun, PageSize: most, PageToken: token}
		if r.filter.limit > 0 {
			req.PageSize = uint32(min(most, uint64(r.filter.limit)-done.messages))
			req.All = f == nil
		}
		answer, err := queue.RetryQueued(ctx, req)
		if err != nil {
			return done, err
		}
		done.add(answer)
		token = answer.NextPageToken
		if token == "" || (r.filter.limit > 0 && done.messages >= uint64(r.filter.limit)) {
			return done, nil
		}
	}
}

func (r *retryCommand) sample(ctx context.Context, queue pb.QueueServiceClient, f *pb.MessageFilter, meant count) error {
	const some = 5
	pending := &pb.MessageFilter{
		Domain: f.GetDomain(), Destination: f.GetDestination(), From: f.GetFrom(), To: f.GetTo(),
		States: []pb.RecipientState{pb.RecipientState_RECIPIENT_STATE_PENDING},
		Since:  f.GetSince(), Until: f.GetUntil(),
	}
	list, err := queue.ListQueue(ctx, &pb.ListQueueRequest{Filter: pending, PageSize: uint32(min(some, meant.messages))})
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "%s will be tried now, among them:\n", meant)
	t := newTable(r.out)
	r.queueRows(t, true, list.Messages)
	return t.flush()
}

func (r *retryCommand) confirmed() (bool, error) {
	fmt.Fprint(r.out, "Go on? [y/N] ")
	answer, err := bufio.NewReader(r.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}

func (r *retryCommand) report(done count) error {
	verb := "made due now"
	if r.dryRun {
		verb = "would be made due now"
	}
	_, err := fmt.Fprintf(r.out, "%s %s\n", done, verb)
	return err
}

// count is what an action came to so far.
type count struct{ messages, recipients uint64 }

func (c *count) add(r *pb.RetryQueuedResponse) {
	c.messages += r.Messages
	c.recipients += r.Recipients
}

func (c count) String() string {
	return fmt.Sprintf("%s with %s", plural(c.messages, "message"), plural(c.recipients, "pending recipient"))
}

// wrap says how far an action came before it failed.
func (c count) wrap(err error) error {
	if c.messages == 0 {
		return err
	}
	return fmt.Errorf("%w (before that, %s made due)", err, c)
}

func plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
