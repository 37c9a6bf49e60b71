package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func (a *app) policyShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a retry policy with the times of all attempts",
		Long: `Show a retry policy with the planned times of all attempts: the age of the
message at each, jitter aside. With --json durations are in seconds.`,
		Example: "  holdfast policy show stepped",
		Args:    oneArgument("policy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewPolicyServiceClient(conn).GetPolicy(ctx, &pb.GetPolicyRequest{Name: args[0]})
				if err != nil {
					return err
				}
				a.warnStale(r.Stale)
				if !asJSON {
					return a.showPolicy(r)
				}
				out := policyTimesJSON{policyJSON: toPolicyJSON(r.Policy), Attempts: []float64{}}
				for _, at := range r.Attempts {
					out.Attempts = append(out.Attempts, at.AsDuration().Seconds())
				}
				return a.writeJSON(out)
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) showPolicy(r *pb.GetPolicyResponse) error {
	p := r.Policy
	t := newTable(a.out)
	name := p.Name
	if p.Shipped {
		name += " (ships with the program, can't be changed)"
	}
	t.row("policy", name)
	t.row("retention", relay.FormatDuration(p.Retention.AsDuration()))
	t.row("attempts", attemptsWord(p))
	t.row("delay warning", warningWord(p))
	t.row("jitter", percent(p.Jitter)+" of each interval")
	t.row("used by", fmt.Sprintf("%d domains", p.Domains))
	t.row("made with", policyFlags(p))
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	times := newTable(a.out)
	times.header("ATTEMPT", "AT AGE", "AFTER")
	for i, at := range r.Attempts {
		after := ""
		if i > 0 {
			after = age(at.AsDuration() - r.Attempts[i-1].AsDuration())
		}
		times.row(i+1, age(at.AsDuration()), after)
	}
	return times.flush()
}

func attemptsWord(p *pb.Policy) string {
	if p.MaxAttempts > 0 {
		return fmt.Sprintf("%d at most, %d planned", p.MaxAttempts, p.Planned)
	}
	return fmt.Sprintf("%d planned", p.Planned)
}

func warningWord(p *pb.Policy) string {
	if p.WarnAfter == nil {
		return "none"
	}
	return "after " + relay.FormatDuration(p.WarnAfter.AsDuration())
}
