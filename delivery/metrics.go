package delivery

import (
	"github.com/prometheus/client_golang/prometheus"

	"holdfast/relay"
)

type metrics struct {
	running  prometheus.Gauge
	attempts *prometheus.CounterVec
	seconds  prometheus.Histogram
	orphans  prometheus.Counter
	missed   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_attempts_running", Help: "Attempts of this node that hold a slot.",
		}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_delivery_recipients_total", Help: "Recipients attempted, by what came of it.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "holdfast_attempt_seconds", Help: "Time an attempt took, from its slot to the remote's last reply.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 18),
		}),
		orphans: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_orphan_claims_total", Help: "Claims found without an attempt and given back.",
		}),
		missed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_due_missed_total", Help: "Due messages found only by the rescan: should stay 0.",
		}),
	}
	reg.MustRegister(m.running, m.attempts, m.seconds, m.orphans, m.missed)
	return m
}

func (m *metrics) observe(a *attempt) {
	if a.skipped {
		return
	}
	m.seconds.Observe(a.ended.Sub(a.started).Seconds())
	for i := range a.recipients {
		failure := a.failure
		if failure == nil {
			failure = a.result.Outcomes[i].Failure
		}
		m.attempts.WithLabelValues(outcomeLabel(failure)).Inc()
	}
}

func outcomeLabel(f *relay.Failure) string {
	switch {
	case f == nil:
		return "delivered"
	case interrupted(f):
		return "interrupted"
	case f.Class() == relay.PermanentFailure:
		return "rejected"
	case f.Class() == relay.HostFailure:
		return "unreachable"
	}
	return "deferred"
}
