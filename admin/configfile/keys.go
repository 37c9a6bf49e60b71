package configfile

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// key is one key of a kind of table: how its value becomes part of a request R,
// and how what is set, C, shows as a value. Its name is that of the request's
// field.
type key[R, C any] struct {
	name string
	take func(to R, v value) error
	// show is the value in TOML, "" where the key is left out.
	show func(C) string
}

var destinationKeys = []key[*pb.SetDestinationRequest, *pb.DestinationConfig]{
	{"hosts", takeHosts, showHosts},
	{"mx", takeText(func(r *pb.SetDestinationRequest, s string) { r.Mx = &s }),
		func(c *pb.DestinationConfig) string { return orNothing(c.Mx) }},
	{"slots", takeUint32(func(r *pb.SetDestinationRequest, n uint32) { r.Slots = &n }),
		func(c *pb.DestinationConfig) string { return strconv.FormatUint(uint64(c.Slots), 10) }},
	{"tls", takeText(func(r *pb.SetDestinationRequest, s string) { r.Tls = &s }),
		func(c *pb.DestinationConfig) string { return quote(c.Tls) }},
	{"probe_max", takeDuration(func(r *pb.SetDestinationRequest, d time.Duration) { r.ProbeMax = durationpb.New(d) }),
		func(c *pb.DestinationConfig) string { return duration(time.Duration(c.ProbeMax)) }},
	{"on_5xx", takeText(func(r *pb.SetDestinationRequest, s string) { r.On_5Xx = &s }),
		func(c *pb.DestinationConfig) string { return quote(onRejected(c)) }},
	{"auth_user", takeText(func(r *pb.SetDestinationRequest, s string) { r.AuthUser = &s }),
		func(c *pb.DestinationConfig) string { return orNothing(c.AuthUser) }},
	// A secret: it can be set with a file, and is in none that is written.
	{"auth_password", takeText(func(r *pb.SetDestinationRequest, s string) { r.AuthPassword = &s }),
		func(*pb.DestinationConfig) string { return "" }},
}

var domainKeys = []key[*pb.SetDomainRequest, *pb.DomainConfig]{
	{"destination", takeText(func(r *pb.SetDomainRequest, s string) { r.Destination = &s }),
		func(c *pb.DomainConfig) string { return quote(c.Destination) }},
	{"policy", takeText(func(r *pb.SetDomainRequest, s string) { r.Policy = &s }),
		func(c *pb.DomainConfig) string { return quote(c.Policy) }},
	{"verify", takeVerify, func(c *pb.DomainConfig) string { return quote(VerifyWord(c.Verify)) }},
	{"spam_if", func(r *pb.SetDomainRequest, v value) (err error) { r.SpamIf, err = texts(v); return err },
		func(c *pb.DomainConfig) string { return list(c.SpamIf) }},
	{"spam_retention", takeDuration(func(r *pb.SetDomainRequest, d time.Duration) { r.SpamRetention = durationpb.New(d) }),
		func(c *pb.DomainConfig) string { return duration(fsm.SpamRetention(c)) }},
	{"max_messages", takeUint64(func(r *pb.SetDomainRequest, n uint64) { r.MaxMessages = &n }),
		func(c *pb.DomainConfig) string { return strconv.FormatUint(c.MaxMessages, 10) }},
	{"max_bytes", takeUint64(func(r *pb.SetDomainRequest, n uint64) { r.MaxBytes = &n }),
		func(c *pb.DomainConfig) string { return strconv.FormatUint(c.MaxBytes, 10) }},
	// A list of its own: OfRecipients shows it.
	{recipients, takeRecipients, func(*pb.DomainConfig) string { return "" }},
}

var policyKeys = []key[*pb.SetPolicyRequest, relay.Policy]{
	{"phases", takePhases, func(p relay.Policy) string {
		var all []string
		for _, phase := range p.Phases {
			all = append(all, phase.String())
		}
		return list(all)
	}},
	{"retention", takeDuration(func(r *pb.SetPolicyRequest, d time.Duration) { r.Retention = durationpb.New(d) }),
		func(p relay.Policy) string { return duration(p.Retention) }},
	{"max_attempts", takeUint32(func(r *pb.SetPolicyRequest, n uint32) { r.MaxAttempts = &n }),
		func(p relay.Policy) string { return strconv.Itoa(p.MaxAttempts) }},
	{"warn_after", takeDuration(func(r *pb.SetPolicyRequest, d time.Duration) { r.WarnAfter = durationpb.New(d) }),
		func(p relay.Policy) string { return duration(p.WarnAfter) }},
	{"jitter", takeJitter, func(p relay.Policy) string {
		return quote(strings.TrimSuffix(strconv.FormatFloat(100*p.Jitter, 'f', 1, 64), ".0") + "%")
	}},
}

var settingKeys = []key[*pb.Settings, relay.Settings]{
	{"log_retention", takeDuration(func(s *pb.Settings, d time.Duration) { s.LogRetention = new(int64(d)) }),
		func(s relay.Settings) string { return duration(s.LogRetention) }},
	{"delete_grace", takeDuration(func(s *pb.Settings, d time.Duration) { s.DeleteGrace = new(int64(d)) }),
		func(s relay.Settings) string { return duration(s.DeleteGrace) }},
	{"frozen_age", takeDuration(func(s *pb.Settings, d time.Duration) { s.FrozenAge = new(int64(d)) }),
		func(s relay.Settings) string { return duration(s.FrozenAge) }},
	{"max_message_size", func(s *pb.Settings, v value) error {
		n, err := number(v)
		s.MaxMessageSize = &n
		return err
	}, func(s relay.Settings) string { return strconv.FormatInt(s.MaxMessageSize, 10) }},
	{"warn_pending", takeUint64(func(s *pb.Settings, n uint64) { s.WarnPending = &n }),
		func(s relay.Settings) string { return strconv.FormatUint(s.WarnPending, 10) }},
	{"warn_oldest", takeDuration(func(s *pb.Settings, d time.Duration) { s.WarnOldest = new(int64(d)) }),
		func(s relay.Settings) string { return duration(s.WarnOldest) }},
	{"drill_consent", func(s *pb.Settings, v value) error {
		b, err := truth(v)
		s.DrillConsent = &b
		return err
	}, func(s relay.Settings) string { return strconv.FormatBool(s.DrillConsent) }},
	{"postmaster", takeText(func(s *pb.Settings, text string) { s.Postmaster = &text }),
		func(s relay.Settings) string { return quote(s.Postmaster) }},
	{"relay_networks", takeRelayNetworks, func(s relay.Settings) string { return list(s.RelayNetworks) }},
	{"verify_valid", takeDuration(func(s *pb.Settings, d time.Duration) { s.VerifyValid = new(int64(d)) }),
		func(s relay.Settings) string { return duration(s.VerifyValid) }},
	{"verify_invalid", takeDuration(func(s *pb.Settings, d time.Duration) { s.VerifyInvalid = new(int64(d)) }),
		func(s relay.Settings) string { return duration(s.VerifyInvalid) }},
}

func takeRelayNetworks(s *pb.Settings, v value) error {
	all, err := texts(v)
	if err != nil {
		return err
	}
	networks, err := relay.RelayNetworkTexts(all)
	if err == nil {
		s.RelayNetworks = &pb.RelayNetworks{Networks: networks}
	}
	return err
}

func takeHosts(r *pb.SetDestinationRequest, v value) error {
	all, err := texts(v)
	switch {
	case err != nil:
		return err
	case len(all) == 0:
		return errors.New("want one HOST:PORT at least")
	}
	for _, s := range all {
		h, err := relay.ParseHost(s)
		if err != nil {
			return err
		}
		r.Hosts = append(r.Hosts, &pb.DestinationHost{Address: h.Address, Priority: h.Priority, Weight: h.Weight})
	}
	return nil
}

func showHosts(c *pb.DestinationConfig) string {
	if c.Mx != "" {
		return ""
	}
	var all []string
	for _, h := range c.Hosts {
		host := relay.Host{Address: h.Address, Priority: h.Priority, Weight: h.Weight}
		if usual, err := relay.ParseHost(h.Address); err == nil && usual == host {
			all = append(all, h.Address)
		} else {
			all = append(all, host.String())
		}
	}
	return list(all)
}

func onRejected(c *pb.DestinationConfig) string {
	if c.HoldRejected {
		return "hold"
	}
	return "bounce"
}

func takePhases(r *pb.SetPolicyRequest, v value) error {
	all, err := texts(v)
	if err != nil {
		return err
	}
	for _, s := range all {
		phase, err := relay.ParsePhase(s)
		if err != nil {
			return err
		}
		r.Phases = append(r.Phases, &pb.PolicyPhase{
			Until: durationpb.New(phase.Until), Every: durationpb.New(phase.Every), Factor: phase.Factor,
		})
	}
	return nil
}

func takeJitter(r *pb.SetPolicyRequest, v value) error {
	s, err := text(v)
	if err != nil {
		return errors.New(`want a share such as "10%"`)
	}
	share, err := relay.ParsePercent(s)
	r.Jitter = &share
	return err
}

func takeText[R any](set func(R, string)) func(R, value) error {
	return func(r R, v value) error {
		s, err := text(v)
		if err == nil {
			set(r, s)
		}
		return err
	}
}

func takeDuration[R any](set func(R, time.Duration)) func(R, value) error {
	return func(r R, v value) error {
		s, err := text(v)
		if err != nil {
			return errors.New(`want a duration in quotes, such as "30s", "15m", "2h" or "4d"`)
		}
		d, err := relay.ParseDuration(s)
		if err == nil {
			set(r, d)
		}
		return err
	}
}

func takeUint64[R any](set func(R, uint64)) func(R, value) error {
	return func(r R, v value) error {
		n, err := number(v)
		switch {
		case err != nil:
			return err
		case n < 0:
			return errors.New("want a number that isn't negative")
		}
		set(r, uint64(n))
		return nil
	}
}

func takeUint32[R any](set func(R, uint32)) func(R, value) error {
	return takeUint64(func(r R, n uint64) { set(r, uint32(min(n, math.MaxUint32))) })
}

func duration(d time.Duration) string { return quote(relay.FormatDuration(d)) }

func orNothing(s string) string {
	if s == "" {
		return ""
	}
	return quote(s)
}

func list(items []string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = quote(item)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
