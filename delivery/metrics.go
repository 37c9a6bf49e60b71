package delivery

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

type metrics struct {
	running  prometheus.Gauge
	attempts *prometheus.CounterVec
	seconds  prometheus.Histogram
	orphans  prometheus.Counter
	dropped  *prometheus.CounterVec
	missed   prometheus.Counter
	claims   *prometheus.CounterVec
	connects *prometheus.CounterVec
	connect  prometheus.Histogram
	probes   *prometheus.CounterVec
	callouts *prometheus.CounterVec
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
	m.claims = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_claims_total", Help: "Claims that this node proposed, by whether the log granted them.",
	}, []string{"result"})
	m.connects = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_connects_total", Help: "Connections to destinations, up to EHLO and TLS, by what came of them.",
	}, []string{"result"})
	m.connect = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "holdfast_connect_seconds", Help: "Time to open a connection to a destination, with EHLO and TLS.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 18),
	})
	m.probes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_probes_total", Help: "Probes of destinations that were not up, by what came of them.",
	}, []string{"result"})
	m.callouts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_callouts_total", Help: "Recipients asked for at destinations, by what these said.",
	}, []string{"result"})
	m.dropped = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_dropped_recipients_total", Help: "Recipients marked as spam that were dropped without a report, by why.",
	}, []string{"reason"})
	m.initialise()
	reg.MustRegister(m.running, m.attempts, m.seconds, m.orphans, m.missed, m.claims, m.connects, m.connect, m.probes, m.callouts, m.dropped)
	return m
}

// connectResults are all labels of connects: the causes that a connection may
// fail for, in the contract's words.
var connectResults = []string{
	"ok", string(relay.CauseDNS), string(relay.CauseRefused), string(relay.CauseUnreachable), string(relay.CauseTimeout),
	string(relay.CauseTLS), string(relay.CauseAuth), string(relay.CauseDeferred), string(relay.CauseRejected), string(relay.CauseClosed),
}

// initialise makes every series exist from the start: an alert on one that
// isn't there yet would stay silent.
func (m *metrics) initialise() {
	for vec, labels := range map[*prometheus.CounterVec][]string{
		m.attempts: {"delivered", "deferred", "unreachable", "rejected", "interrupted"},
		m.claims:   {"granted", "denied"},
		m.probes:   {"recovered", "failed", "interrupted"},
		m.callouts: {"valid", "invalid", "accepts-any", "unknown"},
		m.dropped:  {"rejected", "expired", "attempts", "returned"},
		m.connects: connectResults,
	} {
		for _, label := range labels {
			vec.WithLabelValues(label)
		}
	}
}

func (m *metrics) connected(failure *relay.Failure, took time.Duration) {
	m.connect.Observe(took.Seconds())
	result := "ok"
	if failure != nil {
		result = string(failure.Cause)
	}
	m.connects.WithLabelValues(result).Inc()
}

// probed counts an attempt that was a probe by what it says of the destination.
func (m *metrics) probed(v verdict) {
	result := "interrupted"
	switch {
	case v.recovered:
		result = "recovered"
	case v.failed != nil:
		result = "failed"
	}
	m.probes.WithLabelValues(result).Inc()
}

// calledOut counts a call-out by what it came to.
func (m *metrics) calledOut(a answer) {
	result := "unknown"
	switch {
	case a.err != nil:
	case a.said.Verdict == pb.Verdict_VERDICT_VALID:
		result = "valid"
	case a.said.Verdict == pb.Verdict_VERDICT_INVALID:
		result = "invalid"
	default:
		result = "accepts-any"
	}
	m.callouts.WithLabelValues(result).Inc()
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
		if failure != nil && failure.Untried {
			continue
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
