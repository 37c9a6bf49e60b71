package admin

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	pb "holdfast/proto/holdfast/v1"
)

// Verification compares the states of all nodes by itself, on whichever node
// leads: soon after it began to lead, and then once an hour. The digests are
// kept as the log is applied, so a run costs one entry and one call to each
// node. What the nodes found in their own rows, which they read once a day, is
// part of it.
type Verification struct {
	node     *node
	times    VerificationTimes
	mismatch prometheus.Gauge
	ran      prometheus.Gauge
}

// VerificationTimes say when a leader verifies.
type VerificationTimes struct {
	First time.Duration // after it began to lead
	Every time.Duration // from then on
}

// DefaultVerificationTimes leave a new leader alone with the takeover at first.
func DefaultVerificationTimes() VerificationTimes {
	return VerificationTimes{First: time.Minute, Every: time.Hour}
}

// NewVerification prepares the run on this node; Run does it.
func NewVerification(cfg Config, times VerificationTimes, r prometheus.Registerer) *Verification {
	v := &Verification{
		node: newNode(cfg), times: times,
		mismatch: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_state_mismatch", Help: "Families, over all nodes, whose state isn't what it should be, by the latest verification that this node made as the leader; 0 on the others.",
		}),
		ran: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_state_verified_timestamp_seconds", Help: "When this node, as the leader, last compared the states of all nodes; 0 where it hasn't.",
		}),
	}
	r.MustRegister(v.mismatch, v.ran)
	return v
}

// Run verifies until ctx ends.
func (v *Verification) Run(ctx context.Context) error {
	ticker := time.NewTicker(v.times.First / 4)
	defer ticker.Stop()
	var leadsSince, last time.Time // zero: it doesn't lead, or hasn't verified since
	for {
		now := v.node.Now()
		switch leads := v.node.Cluster.Leader() == v.node.Node && v.node.Cluster.Leased(); {
		case !leads:
			leadsSince, last = time.Time{}, time.Time{}
			v.mismatch.Set(0)
		case leadsSince.IsZero():
			leadsSince = now
		case last.IsZero() && now.Sub(leadsSince) >= v.times.First, !last.IsZero() && now.Sub(last) >= v.times.Every:
			v.once(ctx)
			last = now
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// once makes one run. What can't be compared now is in the next one: that a
// node is away, another alarm tells.
func (v *Verification) once(ctx context.Context) {
	result, err := v.node.verify(ctx)
	if err != nil {
		if ctx.Err() == nil {
			v.node.Logger.Warn("the nodes' states were not compared", "error", err)
		}
		return
	}
	v.mismatch.Set(float64(len(result.Mismatches)))
	v.ran.Set(float64(v.node.Now().Unix()))
	if len(result.Mismatches) == 0 {
		v.node.Logger.Info("the nodes' states were compared: no difference", "index", result.Index, "nodes", len(result.Nodes))
	} else {
		v.node.Logger.Error("the nodes' states differ", "index", result.Index, "mismatches", sentence(result.Mismatches))
	}
	// Last: whom the warning calls finds the rest.
	v.node.Cluster.Announce(result.Mismatches)
}

func sentence(found []*pb.StateMismatch) string {
	var all []string
	for _, m := range found {
		all = append(all, fmt.Sprintf("node %s in %s (%s)", m.Node, m.Family, m.Text))
	}
	return strings.Join(all, ", ")
}
