package relay

import (
	"time"
)

// DefaultPolicy is the retry policy of a domain that names none.
const DefaultPolicy = "five-day"

// RetryPhase is a stretch of a policy: until the message has reached an age, attempts are an
// interval apart; the interval is multiplied by Factor after each attempt.
type RetryPhase struct {
	Until  time.Duration // age at which the next phase begins
	Every  time.Duration // first interval of the phase
	Factor float64       // 1 keeps the interval, above 1 lets it grow
}

// Policy is a retry schedule. Ages count from acceptance.
type Policy struct {
	Name      string
	Phases    []RetryPhase
	Retention time.Duration // age at which the message is returned
	Jitter    float64       // share of each interval that is left to chance, 0 to 0.5
}

// FiveDay is dense at first and ever sparser, for five days. RFC 5321 section
// 4.5.4.1 wants at least 30 minutes between attempts "in general" and 4-5 days
// before giving up; the first hour is denser because a destination of ours is
// the recipient's own server, not a stranger's.
func FiveDay() Policy {
	return Policy{
		Name: DefaultPolicy,
		Phases: []RetryPhase{
			{Until: time.Hour, Every: time.Minute, Factor: 2},
			{Until: 12 * time.Hour, Every: 30 * time.Minute, Factor: 1},
			{Until: 5 * 24 * time.Hour, Every: 2 * time.Hour, Factor: 1},
		},
		Retention: 5 * 24 * time.Hour,
		Jitter:    0.1,
	}
}

// BuiltinPolicy finds a shipped policy by name.
func BuiltinPolicy(name string) (Policy, bool) {
	if name == DefaultPolicy {
		return FiveDay(), true
	}
	return Policy{}, false
}

// Next is the time of the attempt that follows a failed one, made at the age
// (now - accepted). chance is a number from 0 to 1 chosen by the caller; it
// moves the time by at most Jitter of the interval to either side. The result
// is never later than the end of the retention, so that the last attempt comes
// before the message is returned.
func (p Policy) Next(accepted, now time.Time, chance float64) time.Time {
	interval := p.intervalAt(now.Sub(accepted))
	jitter := time.Duration(float64(interval) * p.Jitter * (2*chance - 1))
	next := now.Add(interval + jitter)
	if end := accepted.Add(p.Retention); next.After(end) && now.Before(end) {
		return end
	}
	return next
}

// intervalAt is the interval that the schedule has at an age. Intervals are a
// function of age alone, so that a message whose attempts were suspended by
// an outage goes on where its age says, not where it stopped.
func (p Policy) intervalAt(age time.Duration) time.Duration {
	var begin time.Duration
	last := time.Minute
	for _, phase := range p.Phases {
		interval := phase.Every
		for at := begin; phase.Factor > 1 && at+interval <= age && at < phase.Until; {
			at += interval
			interval = time.Duration(float64(interval) * phase.Factor)
		}
		last = interval
		if age < phase.Until {
			return interval
		}
		begin = phase.Until
	}
	return last
}
