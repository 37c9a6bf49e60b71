package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) clusterJoinCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "join HOST:PORT…",
		Short: "Make a node join a cluster",
		Long: `Make the node that answers join the cluster of the given gRPC addresses; one is
enough. It is for a node whose file has an empty cluster.join, and is asked over
that node's own socket. The command returns once the node votes.

A node with join addresses in its file needs no such command.`,
		Example: "  holdfast cluster join 10.0.0.1:7500 --addr unix:/var/lib/holdfast/admin.sock",
		Args:    arguments(cobra.MinimumNArgs(1), "the gRPC address of a node of the cluster"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				return a.joinCluster(ctx, pb.NewClusterServiceClient(conn), args)
			})
		},
	}
}

// joinTries times a call's patience of 10 s is how long the command waits.
const joinTries = 6

func (a *app) joinCluster(ctx context.Context, cluster pb.ClusterServiceClient, addresses []string) error {
	said := ""
	for try := range joinTries {
		r, err := cluster.JoinCluster(ctx, &pb.JoinClusterRequest{Addresses: addresses})
		if err != nil {
			return err
		}
		if r.Voter {
			done := "joined: the node votes"
			if try == 0 && r.Text != "" {
				done = printable(r.Text) // it voted before
			}
			_, err := fmt.Fprintln(a.out, done)
			return err
		}
		if said = r.Text; said != "" {
			fmt.Fprintln(a.err, "holdfast: "+printable(said))
		}
	}
	return &noAnswerError{text: "the node doesn't vote yet, and goes on trying: " + said}
}
