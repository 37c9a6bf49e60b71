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

func (a *app) destinationSetCommand() *cobra.Command {
	var hosts []string
	var slots uint32
	var tls string
	var probeMax durationFlag
	missing := later{"mx": nil, "on-5xx": {"bounce"}, "auth-user": nil, "auth-password-file": nil}
	cmd := &cobra.Command{
		Use:   "set NAME --host HOST:PORT[,priority=N,weight=N]...",
		Short: "Create a destination, or change it",
		Long: `Create a destination, or change what is given of one that is set; --host
replaces the whole list. New and queued mail alike go to the new hosts. It
returns when every node has it.`,
		Example: `  holdfast destination set office --host mail.example.com:25
  holdfast destination set office --host mx1.example.com:25,priority=10 --host mx2.example.com:25,priority=20
  holdfast destination set office --slots 5 --tls require`,
		Args: oneArgument("destination"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := missing.refuse(cmd); err != nil {
				return err
			}
			req := &pb.SetDestinationRequest{Name: args[0]}
			for _, text := range hosts {
				h, err := relay.ParseHost(text)
				if err != nil {
					return usage("--host: %v", err)
				}
				req.Hosts = append(req.Hosts, &pb.DestinationHost{Address: h.Address, Priority: h.Priority, Weight: h.Weight})
			}
			if cmd.Flags().Changed("slots") {
				req.Slots = &slots
			}
			if cmd.Flags().Changed("tls") {
				req.Tls = &tls
			}
			if cmd.Flags().Changed("probe-max") {
				req.ProbeMax = durationpb.New(probeMax.value)
			}
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewDestinationServiceClient(conn).SetDestination(ctx, req)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.out, "destination %s %s: %s, %d slots, tls %s\n",
					r.Destination.Name, createdWord(r.Created), hostList(r.Destination.Hosts), r.Destination.Slots, r.Destination.Tls)
				return err
			})
		},
	}
	cmd.Flags().StringArrayVar(&hosts, "host", nil, "HOST:PORT[,priority=N,weight=N], several are allowed (needed for a new destination)")
	cmd.Flags().Uint32Var(&slots, "slots", 0, fmt.Sprintf("connections at most, over all nodes (default %d for a new destination)", relay.DefaultSlots))
	cmd.Flags().StringVar(&tls, "tls", "", "none, opportunistic, require or verify (default opportunistic for a new destination)")
	cmd.Flags().Var(&probeMax, "probe-max", "longest time between probes while it is down (default 5m for a new destination)")
	missing.add(cmd.Flags())
	return cmd
}
