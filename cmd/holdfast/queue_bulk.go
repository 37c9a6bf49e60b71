package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// inBulk counts, asks, and has the cluster carry it out.
func (c *operateCommand) inBulk(ctx context.Context, queue pb.QueueServiceClient, f *pb.MessageFilter) error {
	var meant *pb.PreviewBulkResponse
	if !c.yes || c.dryRun {
		var err error
		if meant, err = c.preview(ctx, queue, f); err != nil {
			return err
		}
		count := operated{messages: meant.Messages, recipients: meant.Recipients, refused: meant.Refused, refusal: meant.Refusal}
		if c.dryRun {
			return c.report(count)
		}
		if err := count.nothing(c.op); err != nil {
			return err
		}
		if meant.Messages == 0 {
			_, err := fmt.Fprintln(c.out, "no message matches")
			return err
		}
		if err := c.confirm(count, meant.Sample); err != nil {
			return err
		}
	}
	started, err := queue.StartBulk(ctx, &pb.StartBulkRequest{
		Operation: &c.request, Filter: f, All: c.all, Limit: uint64(c.filter.limit), Expected: meant.GetRecipients(),
		Index: meant.GetIndex(),
	})
	if err != nil {
		return err
	}
	c.warnUnconfirmed(started.Unconfirmed)
	bulk, err := c.follow(ctx, queue, started)
	if err != nil {
		return fmt.Errorf("%w; the operation goes on in the cluster, `holdfast queue operations` shows how far it is, and `holdfast queue operations stop %s` stops it",
			err, started.BulkId)
	}
	if bulk.Failure != "" || bulk.Stopped {
		return failed(bulk, c.op)
	}
	return c.report(operatedBy(bulk))
}

func operatedBy(bulk *pb.Bulk) operated {
	return operated{
		messages: bulk.Messages, recipients: bulk.Recipients, waiting: bulk.Waiting,
		refused: bulk.Refused, refusal: bulk.Refusal,
	}
}

// failed is the error of an operation that ended before its time.
func failed(bulk *pb.Bulk, op operation) error {
	why := fmt.Errorf("the operation ended before its time: %s", printable(bulk.Failure))
	if bulk.Stopped {
		why = fmt.Errorf("the operation was %s", stoppedBy(bulk))
	}
	return operatedBy(bulk).wrap(why, op)
}

func (c *operateCommand) preview(ctx context.Context, queue pb.QueueServiceClient, f *pb.MessageFilter) (*pb.PreviewBulkResponse, error) {
	stream, err := queue.PreviewBulk(ctx, &pb.PreviewBulkRequest{
		Operation: &c.request, Filter: f, Limit: uint64(c.filter.limit),
	})
	if err != nil {
		return nil, err
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if r.Finished {
			c.endProgress()
			c.warnStale(r.Stale)
			return r, nil
		}
		c.progress("%s so far", plural(r.Messages, "message"))
	}
}

func (c *operateCommand) confirm(count operated, sample []*pb.Message) error {
	fmt.Fprintf(c.out, "%s would be %s, among them:\n", count, c.op.would)
	t := newTable(c.out)
	c.queueRows(t, true, sample)
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprint(c.out, count.left(c.op))
	return c.ask()
}

// followTries is how often a node that stopped answering is asked again for the
// progress of what goes on without it.
const followTries = 5

// follow shows the progress until the operation is finished.
func (c *operateCommand) follow(ctx context.Context, queue pb.QueueServiceClient, started *pb.StartBulkResponse) (*pb.Bulk, error) {
	for tries := 1; ; tries++ {
		bulk, err := c.watch(ctx, queue, started)
		if status.Code(err) != codes.Unavailable || tries == followTries {
			return bulk, err
		}
		retry := time.NewTimer(time.Second)
		select {
		case <-retry.C:
		case <-ctx.Done():
		}
		retry.Stop()
	}
}

func (c *operateCommand) watch(ctx context.Context, queue pb.QueueServiceClient, started *pb.StartBulkResponse) (*pb.Bulk, error) {
	stream, err := queue.WatchBulk(ctx, &pb.WatchBulkRequest{BulkId: started.BulkId, Index: started.Index})
	if err != nil {
		return nil, err
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		b := r.Bulk
		if b.FinishedAt != nil {
			c.endProgress()
			return b, nil
		}
		seen := b.Recipients + b.Waiting
		if b.Expected == 0 {
			c.progress("%s", plural(seen, "recipient"))
			continue
		}
		c.progress("%s %3d %%, %d of %s", bar(seen, b.Expected), 100*min(seen, b.Expected)/b.Expected,
			seen, plural(b.Expected, "recipient"))
	}
}
