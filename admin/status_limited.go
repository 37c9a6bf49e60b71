package admin

import (
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// limitedStatus is what a caller who is limited to domains sees of the cluster:
// whether it works, their counts, where their mail goes and what is wrong with
// that. Nodes, leader and log are the operators'.
func (w window) limitedStatus() *pb.GetStatusResponse {
	out := &pb.GetStatusResponse{
		Stale: !w.quorum, Queue: queueCount(w.Counters()), DestinationsDown: w.destinationsDown(),
	}
	var warnings warner
	if out.Stale {
		warnings.warn("no-quorum", "", "the node that answers has no quorum, and what it shows may be old")
	}
	for _, down := range out.DestinationsDown {
		warnings.warn("destination-down", down.Name, "destination %s is down since %s (%s)", down.Name,
			down.Since.AsTime().Format(time.RFC3339), errorText(down.Error))
	}
	w.warnOfLimits(&warnings)
	out.Warnings = warnings.list
	return out
}

func (w window) destinationsDown() []*pb.GetStatusResponse_DestinationDown {
	var down []*pb.GetStatusResponse_DestinationDown
	for _, record := range w.Destinations() {
		if health := record.Health; health.GetState() == pb.DestinationHealth_STATE_DOWN {
			down = append(down, &pb.GetStatusResponse_DestinationDown{
				Name:      record.Config.GetName(),
				Since:     timestamp(health.Since),
				Error:     deliveryError(health.Failure),
				NextProbe: nextProbe(record),
			})
		}
	}
	return down
}
