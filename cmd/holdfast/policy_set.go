package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func (a *app) policySetCommand() *cobra.Command {
	var phases []string
	var retention, warnAfter durationFlag
	var maxAttempts uint32
	var jitter percentFlag
	cmd := &cobra.Command{
		Use:   "set NAME --phase until=AGE,every=INTERVAL[,factor=N]... --retention AGE",
		Short: "Create a retry policy, or change it",
		Long: `Create a retry policy, or change what is given of one that is set; --phase
replaces the whole list. Those that ship with the program can't be changed.

A phase ends at an age of the message, counted from acceptance. In it attempts
are an interval apart, which grows by the factor from one to the next. An
interval belongs to the phase in which it begins, and is not cut short where that
ends. After the last phase its last interval goes on. The last attempt comes at
the end of the retention; then the message is returned.

A change works from each message's next attempt on, and mail already queued
expires by the policy as it is now.`,
		Example: `  holdfast policy set patient --phase 'until=2h,every=15m' --phase 'until=16h,every=15m,factor=1.5' --retention 10d
  holdfast policy set patient --warn-after 4h
  holdfast policy show patient`,
		Args: oneArgument("policy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &pb.SetPolicyRequest{Name: args[0]}
			for _, text := range phases {
				phase, err := relay.ParsePhase(text)
				if err != nil {
					return usage("--phase: %v", err)
				}
				req.Phases = append(req.Phases, &pb.PolicyPhase{
					Until: durationpb.New(phase.Until), Every: durationpb.New(phase.Every), Factor: phase.Factor,
				})
			}
			if cmd.Flags().Changed("retention") {
				req.Retention = durationpb.New(retention.value)
			}
			if cmd.Flags().Changed("max-attempts") {
				req.MaxAttempts = &maxAttempts
			}
			if cmd.Flags().Changed("warn-after") {
				req.WarnAfter = durationpb.New(warnAfter.value)
			}
			if cmd.Flags().Changed("jitter") {
				req.Jitter = &jitter.value
			}
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewPolicyServiceClient(conn).SetPolicy(ctx, req)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.out, "policy %s %s: %d attempts planned in %s\n", r.Policy.Name,
					createdWord(r.Created), r.Policy.Planned, relay.FormatDuration(r.Policy.Retention.AsDuration()))
				return err
			})
		},
	}
	cmd.Flags().StringArrayVar(&phases, "phase", nil, "until=AGE,every=INTERVAL[,factor=N], several are allowed (needed for a new policy)")
	cmd.Flags().Var(&retention, "retention", "age at which a message is returned (needed for a new policy)")
	cmd.Flags().Uint32Var(&maxAttempts, "max-attempts", 0, "attempts after which it is returned too, 0 for no limit")
	cmd.Flags().Var(&warnAfter, "warn-after", "age at which its sender is told of the delay, 0 for never")
	cmd.Flags().Var(&jitter, "jitter", "share of each interval that is left to chance, to either side (default 10% for a new policy)")
	return cmd
}
