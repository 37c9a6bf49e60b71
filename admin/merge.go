package admin

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// merge brings a change of something into the log that was made from what is
// set at present, and returns once it is in effect on every leased node. Where
// another change came in between, on whichever node, it is made anew from that:
// two changes of different parts both hold.
func (n *node) merge(ctx context.Context, subject string, change func() (*pb.Event, error)) error {
	waiting, cancel := context.WithTimeout(ctx, n.Patience)
	defer cancel()
	for {
		event, err := change()
		if err != nil {
			return err
		}
		index, err := n.propose(waiting, event, subject)
		switch {
		case err == nil:
			return n.inEffect(ctx, index)
		case status.Code(err) != codes.Aborted || index == 0:
			return err
		}
		// This node may not have what came in between yet.
		if err := n.overtaken(waiting, index); err != nil {
			return err
		}
	}
}
