package smtpd

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the counters of the front door.
type metrics struct {
	connections        prometheus.Gauge
	connectionsTotal   prometheus.Counter
	refusedTotal       prometheus.Counter
	refusedClient      prometheus.Counter
	tlsFailures        prometheus.Counter
	panics             prometheus.Counter
	replies            [6]prometheus.Counter // by the first digit
	refusals           *prometheus.CounterVec
	authentications    struct{ good, bad, busy prometheus.Counter }
	messages           prometheus.Counter
	receivedBytes      prometheus.Counter
	acceptance         prometheus.Histogram
	aborts             prometheus.Counter
	cleanups           prometheus.Gauge
	bodyBuffers        prometheus.Gauge
	bodyBuffersRefused prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	factory := promauto.With(registerer)
	gauge := func(name, help string) prometheus.Gauge {
		return factory.NewGauge(prometheus.GaugeOpts{Namespace: "holdfast", Subsystem: "smtpd", Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return factory.NewCounter(prometheus.CounterOpts{Namespace: "holdfast", Subsystem: "smtpd", Name: name, Help: help})
	}
	refused := factory.NewCounterVec(prometheus.CounterOpts{
		Namespace: "holdfast", Subsystem: "smtpd", Name: "connections_refused_total",
		Help: "Connections refused with 421, by the limit that was reached.",
	}, []string{"limit"})
	m := &metrics{
		connections:      gauge("connections", "SMTP connections now."),
		connectionsTotal: counter("connections_total", "SMTP connections taken."),
		refusedTotal:     refused.WithLabelValues("total"),
		refusedClient:    refused.WithLabelValues("client"),
		tlsFailures:      counter("tls_failures_total", "STARTTLS handshakes that failed."),
		panics:           counter("session_panics_total", "Sessions that ended in a panic."),
		messages:         counter("messages_accepted_total", "Messages answered with 250."),
		receivedBytes:    counter("received_bytes_total", "Bytes of content received, accepted or not."),
		acceptance: factory.NewHistogram(prometheus.HistogramOpts{
			Namespace: "holdfast", Subsystem: "smtpd", Name: "acceptance_seconds",
			Help:    "From the end of a message's content to 250.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		aborts:             counter("acceptances_aborted_total", "Messages answered with 451 before their outcome was known."),
		cleanups:           gauge("cleanups", "Messages being taken back now."),
		bodyBuffers:        gauge("body_buffers", "Buffers of 256 KiB in use for bodies."),
		bodyBuffersRefused: counter("body_buffers_refused_total", "Messages refused with 452 for want of a buffer."),
	}
	replies := factory.NewCounterVec(prometheus.CounterOpts{
		Namespace: "holdfast", Subsystem: "smtpd", Name: "replies_total",
		Help: "SMTP replies, by the first digit of their code.",
	}, []string{"class"})
	authentications := factory.NewCounterVec(prometheus.CounterOpts{
		Namespace: "holdfast", Subsystem: "smtpd", Name: "authentications_total",
		Help: "AUTH commands by what came of them: good, bad (unknown account or wrong password), busy (not judged). Malformed and cancelled ones aren't counted.",
	}, []string{"result"})
	m.authentications.good = authentications.WithLabelValues("good")
	m.authentications.bad = authentications.WithLabelValues("bad")
	m.authentications.busy = authentications.WithLabelValues("busy")
	m.refusals = factory.NewCounterVec(prometheus.CounterOpts{
		Namespace: "holdfast", Subsystem: "smtpd", Name: "refusals_total",
		Help: "Commands refused with 4xx or 5xx, by command and reply code.",
	}, []string{"command", "code"})
	m.refusals.WithLabelValues("RCPT", "550")
	m.refusals.WithLabelValues("MAIL", "451")
	for _, class := range []int{2, 3, 4, 5} {
		m.replies[class] = replies.WithLabelValues(strconv.Itoa(class) + "xx")
	}
	return m
}

// refused counts a refusal. Words that clients make up don't become labels.
func (m *metrics) refused(command string, code int) {
	verb, _, _ := strings.Cut(command, " ")
	switch verb {
	case "EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT":
	case "":
		verb = "CONNECT"
	default:
		verb = "OTHER"
	}
	m.refusals.WithLabelValues(verb, strconv.Itoa(code)).Inc()
}
