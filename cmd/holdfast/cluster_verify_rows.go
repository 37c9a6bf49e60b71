package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

// progressPause is the time between two lines about the progress of a node.
const progressPause = 5 * time.Second

// verifyRows has every node read its rows and shows the progress on stderr. The
// error names the nodes that couldn't.
func (a *app) verifyRows(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := pb.NewClusterServiceClient(conn).VerifyRows(ctx, &pb.VerifyRowsRequest{})
	if err != nil {
		return err
	}
	var failed []string
	said := map[string]time.Time{}
	for {
		told, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch {
		case told.Error != "":
			failed = append(failed, fmt.Sprintf("node %s (%s)", told.Node, told.Error))
		case told.Done:
			fmt.Fprintf(a.err, "node %s has read all its %s\n", told.Node, plural(told.Rows, "row"))
		case a.now().Sub(said[told.Node]) >= progressPause:
			said[told.Node] = a.now()
			fmt.Fprintf(a.err, "node %s has read %d of about %s\n", told.Node, told.Rows, plural(told.Total, "row"))
		}
	}
	if len(failed) > 0 {
		return &noAnswerError{text: "rows not read: " + printable(strings.Join(failed, ", "))}
	}
	return nil
}
