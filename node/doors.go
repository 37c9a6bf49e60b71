package node

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/netlimit"
)

// How many connections of strangers gRPC and HTTP have open, each: enough for the
// browsers, scrapers and tokens of a company behind one address.
const (
	maxStrangers        = 128
	maxStrangersAddress = 64
)

// doors bound the connections that anybody can open. SMTP has limits of its own,
// and answers; raft ends what doesn't show a node's certificate in time.
type doors struct {
	// grpc counts where there are certificates: without them there is only
	// loopback, from which the other nodes come too.
	grpc *netlimit.Limit
	http *netlimit.Limit
}

func newDoors(log *slog.Logger, r prometheus.Registerer, now func() time.Time) doors {
	ended := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_connections_ended_total",
		Help: "Connections that were ended to make room for another one, since an address or all together had too many, by door.",
	}, []string{"door"})
	r.MustRegister(ended)
	limit := func(name string) *netlimit.Limit {
		return netlimit.New(netlimit.Config{
			Name: name, Total: maxStrangers, PerAddress: maxStrangersAddress,
			Logger: log, Ended: ended.WithLabelValues(name), Now: now,
		})
	}
	return doors{grpc: limit("grpc"), http: limit("http")}
}

func (d doors) close() {
	d.grpc.Close()
	d.http.Close()
}
