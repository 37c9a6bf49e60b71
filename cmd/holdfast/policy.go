package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// policyJSON has its durations in seconds.
type policyJSON struct {
	Name        string      `json:"name"`
	Shipped     bool        `json:"shipped"`
	Phases      []phaseJSON `json:"phases"`
	Retention   float64     `json:"retention"`
	MaxAttempts *uint32     `json:"maxAttempts"`
	WarnAfter   *float64    `json:"warnAfter"`
	Jitter      float64     `json:"jitter"`
	Planned     uint32      `json:"planned"`
	Domains     uint32      `json:"domains"`
}

type phaseJSON struct {
	Until  float64 `json:"until"`
	Every  float64 `json:"every"`
	Factor float64 `json:"factor"`
}

// policyTimesJSON is a policy with the ages of its attempts.
type policyTimesJSON struct {
	policyJSON
	Attempts []float64 `json:"attempts"`
}

func (a *app) policyCommand() *cobra.Command {
	policy := group("policy", "Retry policies: when mail is tried again, and when it is returned",
		`A retry policy says when a message that its destination deferred is tried again,
and at which age it is returned to its sender. Each domain names one. While a
destination is down its messages make no attempts of their own: it is probed, and
they go when it is back.

Reports to senders go by the policy `+relay.DefaultPolicy+`, whatever their domain has.`)
	policy.AddCommand(a.policySetCommand(), a.policyShowCommand(), a.policyListCommand(), a.policyRemoveCommand())
	return policy
}

func toPolicyJSON(p *pb.Policy) policyJSON {
	out := policyJSON{
		Name: p.Name, Shipped: p.Shipped, Phases: []phaseJSON{}, Retention: p.Retention.AsDuration().Seconds(),
		MaxAttempts: orNull(p.MaxAttempts), WarnAfter: orNull(p.WarnAfter.AsDuration().Seconds()),
		Jitter: p.Jitter, Planned: p.Planned, Domains: p.Domains,
	}
	for _, phase := range p.Phases {
		out.Phases = append(out.Phases, phaseJSON{
			Until: phase.Until.AsDuration().Seconds(), Every: phase.Every.AsDuration().Seconds(), Factor: phase.Factor,
		})
	}
	return out
}

// policyFlags are the flags of `policy set` that make the policy.
func policyFlags(p *pb.Policy) string {
	var b strings.Builder
	for _, phase := range p.Phases {
		fmt.Fprintf(&b, "--phase '%s' ", relay.RetryPhase{
			Until: phase.Until.AsDuration(), Every: phase.Every.AsDuration(), Factor: phase.Factor,
		})
	}
	fmt.Fprintf(&b, "--retention %s", relay.FormatDuration(p.Retention.AsDuration()))
	if p.MaxAttempts > 0 {
		fmt.Fprintf(&b, " --max-attempts %d", p.MaxAttempts)
	}
	if p.WarnAfter != nil {
		fmt.Fprintf(&b, " --warn-after %s", relay.FormatDuration(p.WarnAfter.AsDuration()))
	}
	return b.String() + " --jitter " + percent(p.Jitter)
}

func percent(share float64) string {
	// A share has three decimals, so a percentage has one.
	return strings.TrimSuffix(strconv.FormatFloat(100*share, 'f', 1, 64), ".0") + "%"
}

// age writes how old a message is as people plan: 0:15, 2:37:30, 1d 02:43.
func age(d time.Duration) string {
	d = d.Round(time.Second)
	days, hours, minutes, seconds := d/(24*time.Hour), d/time.Hour%24, d/time.Minute%60, d/time.Second%60
	text := fmt.Sprintf("%d:%02d", hours, minutes)
	if days > 0 {
		text = fmt.Sprintf("%dd %02d:%02d", days, hours, minutes)
	}
	if seconds > 0 {
		text += fmt.Sprintf(":%02d", seconds)
	}
	return text
}

// percentFlag is a share given in percent.
type percentFlag struct{ value float64 }

func (p *percentFlag) String() string {
	if p.value == 0 {
		return ""
	}
	return percent(p.value)
}

func (p *percentFlag) Set(s string) (err error) {
	p.value, err = relay.ParsePercent(s)
	return err
}

func (p *percentFlag) Type() string { return "percent" }
