package main

import (
	"context"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

// joining answers each JoinCluster with the next of its answers.
type joining struct {
	pb.ClusterServiceClient
	answers []*pb.JoinClusterResponse
}

func (j *joining) JoinCluster(context.Context, *pb.JoinClusterRequest, ...grpc.CallOption) (*pb.JoinClusterResponse, error) {
	answer := j.answers[0]
	j.answers = j.answers[1:]
	return answer, nil
}

// A node that voted before the command has joined nothing; one that came to vote while
// the command waited has.
func TestClusterJoinSaysWhatItDid(t *testing.T) {
	member := &pb.JoinClusterResponse{Voter: true, Text: "node d is a member already, and votes"}
	for want, answers := range map[string][]*pb.JoinClusterResponse{
		"node d is a member already, and votes\n": {member},
		"joined: the node votes\n":                {{Text: "catches up"}, member},
	} {
		var out strings.Builder
		a := &app{out: &out, err: io.Discard}
		if err := a.joinCluster(t.Context(), &joining{answers: answers}, []string{"10.0.0.1:7500"}); err != nil || out.String() != want {
			t.Errorf("got %q, %v; want %q", out.String(), err, want)
		}
	}
}
