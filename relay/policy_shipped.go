package relay

import (
	"slices"
	"strings"
	"time"
)

// ShippedPolicies are the policies that come with the program, sorted by name.
// They can't be changed. Apply knows them by name: a name that is added goes
// with a new version of the state.
//
// None warns the sender of a delay: with an outage of a domain's own server
// that would be a report for each message, and many to senders that a spammer
// made up. Operators who want it set a policy of their own.
func ShippedPolicies() []Policy {
	all := []Policy{fiveDay(), stepped(), eleven(), month(), monthExtended()}
	slices.SortFunc(all, func(a, b Policy) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// ShippedPolicy finds a shipped policy by name.
func ShippedPolicy(name string) (Policy, bool) {
	for _, p := range ShippedPolicies() {
		if p.Name == name {
			return p, true
		}
	}
	return Policy{}, false
}

const shippedJitter = 0.1

// fiveDay is dense at first and ever sparser, for five days. RFC 5321 section
// 4.5.4.1 wants at least 30 minutes between attempts "in general" and 4-5 days
// before giving up; the first hour is denser because a destination of ours is
// the recipient's own server, not a stranger's.
func fiveDay() Policy {
	return Policy{
		Name: DefaultPolicy,
		Phases: []RetryPhase{
			{Until: time.Hour, Every: time.Minute, Factor: 2},
			{Until: 12 * time.Hour, Every: 30 * time.Minute, Factor: 1},
			{Until: 5 * day, Every: 2 * time.Hour, Factor: 1},
		},
		Retention: 5 * day, Jitter: shippedJitter,
	}
}

// stepped is what many mail servers have had for decades: quarters of an hour,
// then ever longer, then four times a day.
func stepped() Policy {
	return Policy{
		Name: "stepped",
		Phases: []RetryPhase{
			{Until: 2 * time.Hour, Every: 15 * time.Minute, Factor: 1},
			{Until: 16 * time.Hour, Every: 15 * time.Minute, Factor: 1.5},
			{Until: 4 * day, Every: 6 * time.Hour, Factor: 1},
		},
		Retention: 4 * day, Jitter: shippedJitter,
	}
}

// eleven doubles its interval: the eleventh attempt comes after 3 days and 13
// hours, at the latest with the end of the fourth day.
func eleven() Policy {
	return Policy{
		Name:      "eleven",
		Phases:    []RetryPhase{{Until: 4 * day, Every: 5 * time.Minute, Factor: 2}},
		Retention: 4 * day, MaxAttempts: 11, Jitter: shippedJitter,
	}
}

func month() Policy {
	return Policy{
		Name: "month",
		Phases: []RetryPhase{
			{Until: 2 * time.Hour, Every: 15 * time.Minute, Factor: 1},
			{Until: day, Every: time.Hour, Factor: 1},
			{Until: 30 * day, Every: 4 * time.Hour, Factor: 1},
		},
		Retention: 30 * day, Jitter: shippedJitter,
	}
}

func monthExtended() Policy {
	p := month()
	p.Name, p.Retention = "month-extended", 45*day
	p.Phases = append(p.Phases, RetryPhase{Until: 45 * day, Every: 6 * time.Hour, Factor: 1})
	return p
}
