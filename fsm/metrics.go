package fsm

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	applied  prometheus.Gauge
	seconds  prometheus.Histogram
	events   *prometheus.CounterVec
	installs prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		applied: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_applied_index", Help: "Raft index up to which the log is folded into the state.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "holdfast_apply_seconds", Help: "Time to fold one batch of entries.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_events_applied_total", Help: "Events folded, by what they came to.",
		}, []string{"result"}),
		installs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_snapshots_installed_total", Help: "Checkpoints of other nodes taken over.",
		}),
	}
	for _, result := range []string{"ok", "stale", "refused"} {
		m.events.WithLabelValues(result)
	}
	reg.MustRegister(m.applied, m.seconds, m.events, m.installs)
	return m
}
