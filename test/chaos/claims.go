package main

import (
	"context"
	"errors"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/harness"
)

// owned is what a node has under way, by the replicated state.
type owned struct {
	destinations []string
	slots        int // of these destinations
	claims       int // recipients with an attempt under way
}

// ownedBy asks a node what it owns itself: claims are recipients of its
// destinations that are pending and have no next attempt, as one is under way.
func ownedBy(ctx context.Context, n *harness.Node) (o owned, err error) {
	conn, err := n.Dial()
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	list, err := pb.NewDestinationServiceClient(conn).ListDestinations(ctx, &pb.ListDestinationsRequest{PageSize: 1000})
	if err != nil {
		return o, err
	}
	queue := pb.NewQueueServiceClient(conn)
	for _, d := range list.Destinations {
		if d.Owner != n.Name {
			continue
		}
		o.destinations = append(o.destinations, d.Name)
		o.slots += int(d.Slots)
		// Claims are at most twice the slots and the oldest are claimed first.
		page, err := queue.ListQueue(ctx, &pb.ListQueueRequest{
			Filter: &pb.MessageFilter{Destination: d.Name}, PageSize: 4 * d.Slots,
		})
		if err != nil {
			return o, err
		}
		for _, m := range page.Messages {
			for _, r := range m.Recipients {
				if r.State == pb.RecipientState_RECIPIENT_STATE_PENDING && r.NextAttempt == nil {
					o.claims++
				}
			}
		}
	}
	return o, nil
}
