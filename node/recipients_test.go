package node

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
)

// What the asking node has seen forgotten, a node that is behind it doesn't refuse by:
// it first comes to where that one is.
func TestVerifyRecipientWaitsForTheAsker(t *testing.T) {
	n := alone(t)
	ask := func(applied uint64, patience time.Duration) codes.Code {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := n.verifyRecipient(ctx, &pb.VerifyRecipientRequest{Destination: "dest", Address: "a@example.test", AppliedIndex: applied})
		return status.Code(err)
	}
	if got := ask(n.state.AppliedIndex()+1000, 50*time.Millisecond); got != codes.DeadlineExceeded {
		t.Errorf("behind the asking node it answers %v", got)
	}
	if got := ask(0, time.Minute); got != codes.FailedPrecondition {
		t.Errorf("it answers %v, want that it doesn't own the destination", got)
	}
}
