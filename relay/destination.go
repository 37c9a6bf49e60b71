package relay

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// DefaultSlots is the number of simultaneous connections to a destination
// where none is set.
const DefaultSlots = 20

// MaxSlots bounds a destination's slots: each may hold a connection, a
// goroutine and a window of its message in memory.
const MaxSlots = 1000

// TLS says how a destination's connections are secured.
type TLS string

// The TLS levels, weakest first.
const (
	TLSNone          TLS = "none"
	TLSOpportunistic TLS = "opportunistic"
	TLSRequire       TLS = "require" // encrypted, any certificate
	TLSVerify        TLS = "verify"  // encrypted, certificate checked against the host's name
)

// Host is one server of a destination. Lower priority is tried first; equal
// priorities share by weight.
type Host struct {
	Address  string // host:port
	Priority uint32
	Weight   uint32
}

// ParseHost reads "host:port[,priority=N,weight=N]" as `destination set` takes it.
func ParseHost(s string) (Host, error) {
	address, options, _ := strings.Cut(s, ",")
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return Host{}, fmt.Errorf("host %q: want HOST:PORT", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Host{}, fmt.Errorf("host %q: port must be 1 to 65535", address)
	}
	h := Host{Address: address, Priority: 10, Weight: 1}
	if options == "" {
		return h, nil
	}
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return Host{}, fmt.Errorf("host %q: %s must be a number from 0 to 65535", s, key)
		}
		switch key {
		case "priority":
			h.Priority = uint32(n)
		case "weight":
			h.Weight = uint32(n)
		default:
			return Host{}, fmt.Errorf("host %q: unknown option %q; there are priority and weight", s, key)
		}
	}
	return h, nil
}

// String writes a host the way ParseHost reads it.
func (h Host) String() string {
	return fmt.Sprintf("%s,priority=%d,weight=%d", h.Address, h.Priority, h.Weight)
}
