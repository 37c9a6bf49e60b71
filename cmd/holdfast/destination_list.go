package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) destinationListCommand() *cobra.Command {
	var flags watchFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List destinations with their health",
		Long:    "List destinations by name, with their health and counts of recipients.",
		Example: "  holdfast destination list\n  holdfast destination list --watch",
		Args:    noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.show(cmd, flags, func(ctx context.Context, conn *grpc.ClientConn) error {
				destinations := pb.NewDestinationServiceClient(conn)
				fetch := func(size uint32, token string) (page[*pb.Destination], error) {
					r, err := destinations.ListDestinations(ctx, &pb.ListDestinationsRequest{PageSize: size, PageToken: token})
					return page[*pb.Destination]{items: r.GetDestinations(), next: r.GetNextPageToken(), stale: r.GetStale()}, err
				}
				return a.listDestinations(flags.asJSON, fetch)
			})
		},
	}
	flags.add(cmd)
	return cmd
}

func (a *app) listDestinations(asJSON bool, fetch func(uint32, string) (page[*pb.Destination], error)) error {
	t := newTable(a.out)
	if !asJSON {
		t.header("DESTINATION", "HOSTS", "STATE", "SINCE", "PENDING", "DELIVERED", "FAILED")
	}
	err := eachPage(a, 0, fetch, func(destinations []*pb.Destination) error {
		for _, d := range destinations {
			if asJSON {
				if err := a.writeJSON(toDestinationJSON(d)); err != nil {
					return err
				}
				continue
			}
			cells := []any{d.Name, hostList(d), stateWords(d), a.when(d.Since), "-", "-", "-"}
			if c := d.Count; c != nil {
				cells = append(cells[:4], c.Pending+c.Held, c.Delivered, c.Failed)
			}
			t.row(cells...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.flush()
}

// stateWords is a destination's state with what an operator did to it.
func stateWords(d *pb.Destination) cell {
	c := cell{healthWord(d.State), plain}
	switch d.State {
	case pb.DestinationHealth_STATE_DOWN:
		c.look = red
	case pb.DestinationHealth_STATE_SUSPECT:
		c.look = yellow
	}
	if d.SuspendedSince != nil {
		return cell{c.text + ", suspended", yellow}
	}
	return c
}

func hostList(d *pb.Destination) string { return hostWords(d.Hosts, d.Mx) }

func earlierHosts(d *pb.Destination) string { return hostWords(d.EarlierHosts, d.EarlierMx) }

func hostWords(hosts []*pb.DestinationHost, mx string) string {
	if mx != "" {
		return "MX of " + mx
	}
	var names []string
	for _, h := range hosts {
		names = append(names, h.Address)
	}
	return strings.Join(names, ", ")
}
