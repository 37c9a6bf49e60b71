package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

const operationHelp = `

Messages are named by id, or picked by a filter, of which only the matching
recipients are touched, or --all means the whole queue. A filter or --all shows
how many messages it means and some of them, and asks; --yes answers in advance,
--dry-run only counts. What is hit is fixed at the moment of the command: what
comes or changes before the answer isn't hit. The cluster carries it out in
pieces, and goes on if this command ends. Where an attempt is under way, the
operation follows unless that attempt ends the recipient. Who did it, when and
why is in "holdfast log show".
`

// operateCommand is one operation on the command line.
type operateCommand struct {
	*app
	op               operation
	filter           filterFlags
	request          pb.QueueOperation
	all, yes, dryRun bool
}

func (a *app) operationCommand(op operation) *cobra.Command {
	c := &operateCommand{app: a, op: op, request: pb.QueueOperation{Kind: op.kind}}
	word := op.word()
	cmd := &cobra.Command{
		Use:     word + " (ID... | --all | FILTER)",
		Short:   op.short,
		Long:    op.long + operationHelp + filterHelp(wordsOf(op.states)),
		Example: "  holdfast queue " + word + " 01KAP4T8B3Q6W5CEXJ2MRZ7HDV" + c.exampleFlags() + "\n" + op.example,
		RunE:    func(cmd *cobra.Command, args []string) error { return c.run(cmd, args) },
	}
	c.filter.add(cmd)
	flags := cmd.Flags()
	flags.Lookup("limit").Usage = "messages at most, each with all recipients that match (default all)"
	flags.BoolVar(&c.all, "all", false, "the whole queue")
	flags.BoolVar(&c.yes, "yes", false, "don't ask")
	flags.BoolVar(&c.dryRun, "dry-run", false, "only count")
	flags.StringVar(&c.request.Reason, "reason", "", "why, for the log")
	allowEmpty(flags, "reason")
	if op.kind == pb.Operation_KIND_REDIRECT {
		flags.StringVar(&c.request.Destination, "destination-new", "", "destination to send them to")
		flags.StringVar(&c.request.Address, "rcpt-new", "", "address to send them to")
	}
	return cmd
}

// wordsOf lists states in a sentence.
func wordsOf(states []pb.RecipientState) string {
	names := stateNames(states)
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

func (c *operateCommand) exampleFlags() string {
	if c.op.kind == pb.Operation_KIND_REDIRECT {
		return " --rcpt-new postmaster@example.com"
	}
	return ""
}

func (c *operateCommand) run(cmd *cobra.Command, ids []string) error {
	f, err := c.filter.filter(c.app)
	if err != nil {
		return err
	}
	switch {
	case len(ids) > 0 && (f != nil || c.all || c.filter.limit > 0):
		return usage("give message ids, or a filter, or --all: not several of them")
	case len(ids) == 0 && f == nil && !c.all:
		return usage("say which messages: ids, a filter, or --all")
	case f != nil && c.all:
		return usage("--all and a filter contradict each other: give one of them")
	case len(ids) == 0 && !c.yes && !c.dryRun && !c.terminal():
		return usage("nobody is there to confirm: add --yes, or --dry-run to count only")
	case c.op.kind == pb.Operation_KIND_REDIRECT && (c.request.Destination == "") == (c.request.Address == ""):
		return usage("say where to: --destination-new or --rcpt-new, one of the two")
	}
	return c.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
		queue := pb.NewQueueServiceClient(conn)
		if len(ids) > 0 {
			return c.byID(ctx, queue, ids)
		}
		return c.inBulk(ctx, queue, f)
	})
}

// byID sends ids in portions that one call takes.
func (c *operateCommand) byID(ctx context.Context, queue pb.QueueServiceClient, ids []string) error {
	var done operated
	for len(ids) > 0 {
		n := min(maxIDs, len(ids))
		r, err := queue.OperateQueued(ctx, &pb.OperateQueuedRequest{Operation: &c.request, Ids: ids[:n], DryRun: c.dryRun})
		if err != nil {
			return done.wrap(err, c.op)
		}
		done.messages += r.Messages
		done.recipients += r.Recipients
		done.waiting += r.Waiting
		ids = ids[n:]
	}
	return c.report(done)
}

// operated is what an operation came to.
type operated struct {
	messages, recipients, waiting, refused uint64
	refusal                                string
}

func (o operated) String() string {
	return fmt.Sprintf("%s with %s", plural(o.messages, "message"), plural(o.recipients+o.waiting, "recipient"))
}

// wrap says how far an operation came before it failed.
func (o operated) wrap(err error, op operation) error {
	if o.messages == 0 {
		return err
	}
	return fmt.Errorf("%w (before that, %s %s)", err, o, op.done)
}

// nothing is the error of an operation that fits none of what matches, as of one by id;
// nil where it fits some.
func (o operated) nothing(op operation) error {
	if o.refused == 0 || o.recipients+o.waiting > 0 {
		return nil
	}
	return fmt.Errorf("nothing is %s: %s left out, the first because %s", op.would, plural(o.refused, "recipient"), printable(o.refusal))
}

func (c *operateCommand) report(o operated) error {
	if err := o.nothing(c.op); err != nil {
		return err
	}
	if c.dryRun {
		_, err := fmt.Fprintf(c.out, "%s would be %s\n%s", o, c.op.would, o.left(c.op))
		return err
	}
	text := fmt.Sprintf("%s %s", o, c.op.done)
	if c.op.next != "" && o.messages > 0 {
		text += "; " + c.op.next
	}
	_, err := fmt.Fprint(c.out, text+"\n"+o.left(c.op))
	return err
}

// left says in a line each what an operation couldn't do to recipients whose turn
// had come.
func (o operated) left(op operation) (text string) {
	if o.waiting > 0 {
		text += fmt.Sprintf("%s of them being tried right now: %s\n", plural(o.waiting, "recipient"), op.late)
	}
	if o.refused > 0 {
		text += fmt.Sprintf("%s left out, the first because %s\n", plural(o.refused, "recipient"), o.refusal)
	}
	return text
}

func plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
