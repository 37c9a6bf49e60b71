package admin

import (
	"math"
	"net/netip"
	"strings"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Bounds of a destination's longest probe interval. Probes start at the
// shortest.
const (
	shortestProbe = 5 * time.Second
	defaultProbe  = 5 * time.Minute
	longestProbe  = 24 * time.Hour
)

func newDestination(name string) *pb.DestinationConfig {
	return &pb.DestinationConfig{
		Name: name, Slots: relay.DefaultSlots, Tls: string(relay.TLSOpportunistic), ProbeMax: int64(defaultProbe),
	}
}

// changeDestination takes over what a request says, if all of it is valid.
func changeDestination(config *pb.DestinationConfig, req *pb.SetDestinationRequest) error {
	if err := checkDestinationName("name", config.Name); err != nil {
		return err
	}
	for _, change := range []func(*pb.DestinationConfig, *pb.SetDestinationRequest) error{
		changeHosts, changeRefusals, changeLogin, changeConnections,
	} {
		if err := change(config, req); err != nil {
			return err
		}
	}
	return nil
}

func changeConnections(config *pb.DestinationConfig, req *pb.SetDestinationRequest) error {
	if req.Slots != nil {
		if *req.Slots < 1 || *req.Slots > relay.MaxSlots {
			return invalid("slots", "slots %d: want 1 to %d", *req.Slots, relay.MaxSlots)
		}
		config.Slots = *req.Slots
	}
	if req.Tls != nil {
		switch relay.TLS(*req.Tls) {
		case relay.TLSNone, relay.TLSOpportunistic, relay.TLSRequire, relay.TLSVerify:
			config.Tls = *req.Tls
		default:
			return invalid("tls", "tls %q: want none, opportunistic, require or verify", *req.Tls)
		}
	}
	if req.ProbeMax != nil {
		longest := req.ProbeMax.AsDuration()
		if longest < shortestProbe || longest > longestProbe {
			return invalid("probe_max", "probe-max %v: want %v to %v", longest, shortestProbe, longestProbe)
		}
		config.ProbeMax = int64(longest)
	}
	return nil
}

// What becomes of a recipient that is refused with 5xx.
const (
	bounceRejected = "bounce"
	holdRejected   = "hold"
)

func onRejected(config *pb.DestinationConfig) string {
	if config.GetHoldRejected() {
		return holdRejected
	}
	return bounceRejected
}

// changeHosts takes a list of hosts, or the name whose MX records they are; one
// takes the other's place.
func changeHosts(config *pb.DestinationConfig, req *pb.SetDestinationRequest) error {
	hosts := req.Hosts
	switch {
	case req.Undo:
		return nil // undone has them
	case req.Mx != nil && len(hosts) > 0:
		return invalid("mx", "destination %s has either --host or --mx, not both", config.Name)
	case req.Mx != nil:
		if _, err := netip.ParseAddr(*req.Mx); err == nil || !isDNSName(strings.TrimSuffix(*req.Mx, ".")) {
			return invalid("mx", "mx %q is not a domain name", *req.Mx)
		}
		config.Mx, config.Hosts = strings.ToLower(*req.Mx), nil
		return nil
	case len(hosts) == 0 && len(config.Hosts) == 0 && config.Mx == "":
		return invalid("hosts", "destination %s is new: say where it is with --host HOST:PORT", config.Name)
	case len(hosts) == 0:
		return nil
	}
	const most = 100
	if len(hosts) > most {
		return invalid("hosts", "%d hosts: %d at most", len(hosts), most)
	}
	config.Hosts, config.Mx = nil, ""
	for _, host := range hosts {
		if err := checkHost(host.Address); err != nil {
			return err
		}
		if host.Priority > math.MaxUint16 || host.Weight > math.MaxUint16 {
			return invalid("hosts", "host %s: priority and weight are 0 to %d", host.Address, math.MaxUint16)
		}
		config.Hosts = append(config.Hosts, &pb.DestinationConfig_Host{Address: host.Address, Priority: host.Priority, Weight: host.Weight})
	}
	return nil
}

// undone gives a destination the hosts back that it had before.
func undone(config *pb.DestinationConfig, earlier *pb.EarlierHosts, req *pb.SetDestinationRequest) error {
	switch {
	case len(req.Hosts) > 0 || req.Mx != nil:
		return invalid("undo", "destination %s has either --undo, or --host or --mx", config.Name)
	case config.Revision == 0:
		return noDestination(config.Name)
	case earlier == nil:
		return precondition("NOTHING_TO_UNDO", config.Name, "destination %s has had no other hosts: there is nothing to undo", config.Name)
	}
	config.Hosts, config.Mx = earlier.Hosts, earlier.Mx
	return nil
}

func changeRefusals(config *pb.DestinationConfig, req *pb.SetDestinationRequest) error {
	if req.On_5Xx == nil {
		return nil
	}
	switch *req.On_5Xx {
	case bounceRejected, holdRejected:
		config.HoldRejected = *req.On_5Xx == holdRejected
		return nil
	}
	return invalid("on_5xx", "on-5xx %q: want bounce or hold", *req.On_5Xx)
}

// maxLogin is what RFC 4616 section 2 asks servers to take of a user name and of
// a password, in bytes.
const maxLogin = 255

func changeLogin(config *pb.DestinationConfig, req *pb.SetDestinationRequest) error {
	if req.AuthUser == nil && req.AuthPassword == nil {
		return nil
	}
	if req.AuthUser != nil {
		config.AuthUser = *req.AuthUser
	}
	if req.AuthPassword != nil {
		config.AuthPassword = *req.AuthPassword
	}
	if config.AuthUser == "" {
		config.AuthPassword = ""
	}
	switch {
	case config.AuthUser != "" && config.AuthPassword == "":
		return invalid("auth_password", "destination %s: --auth-user needs --auth-password-file", config.Name)
	case config.AuthUser == "" && req.AuthPassword != nil && *req.AuthPassword != "":
		return invalid("auth_user", "destination %s: --auth-password-file needs --auth-user", config.Name)
	case len(config.AuthUser) > maxLogin || len(config.AuthPassword) > maxLogin:
		return invalid("auth_user", "user name and password have %d bytes at most", maxLogin)
	case strings.ContainsRune(config.AuthUser+config.AuthPassword, 0):
		return invalid("auth_user", "user name and password can't hold a zero byte") // RFC 4616 section 2
	}
	return nil
}
