package cluster

import (
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	storeSeconds prometheus.Histogram
	storedBytes  prometheus.Counter
	entries      *prometheus.CounterVec
	events       *prometheus.CounterVec
	repeated     prometheus.Counter
	proposeTime  *prometheus.HistogramVec
	leasesLost   prometheus.Counter
	incarnations prometheus.Counter
	nodesDown    prometheus.Counter
	clockOffset  prometheus.Gauge
	leaderships  prometheus.Counter
	rowsDamaged  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		storeSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "holdfast_raft_store_seconds", Help: "Time to write entries to the raft log, fsync included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		}),
		storedBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_raft_stored_bytes_total", Help: "Bytes of entries written to the raft log.",
		}),
		entries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_proposed_entries_total", Help: "Entries that this node handed to a leader, by lane and outcome.",
		}, []string{"lane", "outcome"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_proposed_events_total", Help: "Events of this node whose outcome became known, by lane.",
		}, []string{"lane"}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_proposals_repeated_total", Help: "Events proposed again because the outcome was unknown.",
		}),
		proposeTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "holdfast_propose_seconds", Help: "Time from proposing an event to its known outcome, by lane.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, []string{"lane"}),
		leasesLost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_leases_lost_total", Help: "How often this node's lease ran out.",
		}),
		incarnations: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_incarnations_total", Help: "How often this node came up in the cluster since its start.",
		}),
		nodesDown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_nodes_declared_down_total", Help: "Nodes that this node, as the leader, declared down.",
		}),
		clockOffset: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_clock_offset_seconds", Help: "The leader's clock less this node's, too small by the time a message takes.",
		}),
	}
	m.leaderships = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "holdfast_leaderships_total", Help: "How often this node became the leader.",
	})
	for _, lane := range []string{"control", "bodies"} {
		m.events.WithLabelValues(lane)
		m.proposeTime.WithLabelValues(lane)
		for _, kind := range []outcomeKind{outcomeApplied, outcomeRefused, outcomeUnknown} {
			m.entries.WithLabelValues(lane, kind.String())
		}
	}
	m.rowsDamaged = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "holdfast_state_families_damaged", Help: "Families whose rows on this node's disk are not what was written, by the latest check.",
	})
	r.MustRegister(m.rowsDamaged, m.leaderships, m.storeSeconds, m.storedBytes, m.entries, m.events, m.repeated, m.proposeTime,
		m.leasesLost, m.incarnations, m.nodesDown, m.clockOffset)
	return m
}

// registerGauges adds what is read from the cluster when asked.
func (c *Cluster) registerGauges(r prometheus.Registerer) {
	gauge := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("holdfast_leader", "1 on the leader.", func() float64 { return boolValue(c.leader.Load().self) })
	gauge("holdfast_leased", "1 while this node holds a lease.", func() float64 { return boolValue(c.Leased()) })
	gauge("holdfast_raft_term", "Raft term.", func() float64 {
		if r := c.raft.Load(); r != nil {
			return float64(r.CurrentTerm())
		}
		return 0
	})
	gauge("holdfast_raft_last_index", "Raft index of the last entry in this node's log.", func() float64 {
		if r := c.raft.Load(); r != nil {
			return float64(r.LastIndex())
		}
		return 0
	})
	gauge("holdfast_raft_voters", "Voters in the raft configuration as this node has it.", func() float64 {
		voters := 0
		for _, server := range c.configuration() {
			if server.Suffrage == raft.Voter {
				voters++
			}
		}
		return float64(voters)
	})
	gauge("holdfast_raft_log_bytes", "Size of the raft log, about.", func() float64 { return float64(c.logs.size()) })
	gauge("holdfast_leader_known", "1 while this node knows a leader.", func() float64 {
		node, _ := c.Leader()
		return boolValue(node != "")
	})
	gauge("holdfast_raft_commit_index", "Raft commit index.", func() float64 {
		if r := c.raft.Load(); r != nil {
			return float64(r.CommitIndex())
		}
		return 0
	})
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
