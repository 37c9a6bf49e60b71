package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "holdfast/proto/holdfast/v1"
)

func addAt(flags *pflag.FlagSet, at *string) {
	flags.StringVar(at, "at", "", "the queue as it was at a raft index (1234) or at a time (03:12 in UTC, 2006-01-02T15:04:05Z, 2h for two hours ago)")
}

// parsePast reads --at, nil where it isn't given.
func (a *app) parsePast(at string) (*pb.PastPoint, error) {
	if at == "" {
		return nil, nil
	}
	if index, err := strconv.ParseUint(at, 10, 64); err == nil {
		if index == 0 {
			return nil, usage("--at 0: indexes begin at 1")
		}
		return &pb.PastPoint{Index: index}, nil
	}
	t, err := a.parseClock(at)
	if err == nil {
		// Who thinks in another zone sees which day it is taken for.
		fmt.Fprintf(a.err, "holdfast: the queue as it was at %s\n", t.Format("2006-01-02 15:04:05Z"))
	} else if t, err = a.parseTime(at); err != nil {
		return nil, usage("--at: want a raft index or a time; %v", err)
	}
	return &pb.PastPoint{Time: timestamppb.New(t)}, nil
}
