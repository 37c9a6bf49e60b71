package delivery

import (
	"cmp"
	"math"
	"slices"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// hostTrouble remembers when a host of a destination failed last.
type hostTrouble map[string]time.Time

// avoidHost is how long a host that failed is tried after the others.
const avoidHost = time.Minute

// order is the order in which an attempt tries the hosts: those without recent
// trouble first, by priority, and among equals by chance in proportion to their
// weights (RFC 2782).
func (h hostTrouble) order(hosts []*pb.DestinationConfig_Host, now time.Time, chance func() float64) []string {
	type candidate struct {
		host  *pb.DestinationConfig_Host
		avoid bool
		lot   float64
	}
	candidates := make([]candidate, len(hosts))
	for i, host := range hosts {
		candidates[i] = candidate{
			host: host, avoid: h.avoids(host.Address, now),
			// The highest of u^(1/w) is each one's with a chance of its share of all w.
			lot: math.Pow(chance(), 1/float64(max(1, host.Weight))),
		}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int {
		if a.avoid != b.avoid {
			if a.avoid {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.host.Priority, b.host.Priority), cmp.Compare(b.lot, a.lot))
	})
	order := make([]string, len(candidates))
	for i, c := range candidates {
		order[i] = c.host.Address
	}
	return order
}

// spares reports whether a host without recent trouble is left.
func (h hostTrouble) spares(hosts []*pb.DestinationConfig_Host, now time.Time) bool {
	return slices.ContainsFunc(hosts, func(host *pb.DestinationConfig_Host) bool {
		return !h.avoids(host.Address, now)
	})
}

// avoids reports whether a host had trouble lately.
func (h hostTrouble) avoids(host string, now time.Time) bool {
	failed, ok := h[host]
	return ok && now.Sub(failed) < avoidHost
}

// learn keeps which hosts an attempt found in trouble, and which not.
func (h hostTrouble) learn(a *attempt) {
	for _, host := range a.failedHosts {
		h[host] = a.ended
	}
	if a.result.Host != "" && a.result.Accepted() > 0 {
		delete(h, a.result.Host)
	}
}
