package relay

import (
	"fmt"
	"regexp"
	"time"
)

// DefaultPolicy is the retry policy of a domain that names none, and of reports
// to senders: those have a policy of their own, whatever the domain has that
// they go to.
const DefaultPolicy = "five-day"

// Limits of a policy. They are part of what the log means: Apply refuses a
// policy that Validate refuses, so a change of them goes with a new version of
// the state.
const (
	maxPhases    = 20
	maxPlanned   = 10_000 // attempts
	minInterval  = time.Second
	maxInterval  = 30 * day
	minRetention = time.Second
	maxRetention = 366 * day
	maxFactor    = 10
	maxJitter    = 0.5
	maxAttempts  = 10_000
)

// RetryPhase is a stretch of a policy: until the message has reached an age,
// attempts are an interval apart, and each interval is Factor times the one
// before.
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
	// MaxAttempts is how many attempts that count are made, 0 where there is no
	// limit but the retention.
	MaxAttempts int
	// WarnAfter is the age at which the sender is told of the delay, 0 for never.
	WarnAfter time.Duration
	Jitter    float64 // share of each interval that is left to chance, 0 to 0.5
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

// Times are the ages of all attempts that the policy plans, jitter aside: the
// first at acceptance, the last one at the end of the retention unless
// MaxAttempts comes before.
func (p Policy) Times() []time.Duration {
	times := []time.Duration{0}
	for age := time.Duration(0); age < p.Retention && len(times) != p.MaxAttempts && len(times) <= maxPlanned; {
		age = min(age+p.intervalAt(age), p.Retention)
		times = append(times, age)
	}
	return times
}

// intervalAt is the interval that begins at an age. It is not cut short where
// its phase ends. Intervals are a function of age alone, so that a message whose
// attempts were suspended by an outage goes on where its age says, not where it
// stopped. After the last phase its last interval goes on.
func (p Policy) intervalAt(age time.Duration) time.Duration {
	var begin, last time.Duration
	for _, phase := range p.Phases {
		if age < phase.Until {
			return phase.intervalAfter(age - begin)
		}
		last = phase.intervalAfter(phase.Until - begin)
		begin = phase.Until
	}
	return last
}

// intervalAfter is the interval that begins a time after the phase did. With
// intervals a, af, aff … the n-th begins after a(f^n-1)/(f-1), so that it is a
// plus (f-1) times that: no step needs the one before.
func (p RetryPhase) intervalAfter(elapsed time.Duration) time.Duration {
	// The conversion keeps machines from rounding once instead of twice: Apply
	// counts the attempts of a policy, on all of them alike.
	growth := float64(float64(elapsed) * (p.Factor - 1))
	return time.Duration(min(float64(p.Every)+growth, float64(maxInterval)))
}

var policyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Validate says what keeps a policy from being used, nil if nothing does.
func (p Policy) Validate() error {
	if !policyName.MatchString(p.Name) {
		return fmt.Errorf("policy %q: want 1 to 63 letters, digits, \".\", \"_\" or \"-\"", p.Name)
	}
	if err := p.validPhases(); err != nil {
		return err
	}
	switch {
	case p.Retention < minRetention || p.Retention > maxRetention:
		return fmt.Errorf("retention %s: want %s to %s", FormatDuration(p.Retention), FormatDuration(minRetention), FormatDuration(maxRetention))
	case p.MaxAttempts < 0 || p.MaxAttempts > maxAttempts:
		return fmt.Errorf("%d attempts at most: want 1 to %d, or 0 for no limit", p.MaxAttempts, maxAttempts)
	case p.WarnAfter < 0 || p.WarnAfter >= p.Retention:
		return fmt.Errorf("delay warning after %s: want it before the end of the retention, %s", FormatDuration(p.WarnAfter), FormatDuration(p.Retention))
	case !(p.Jitter >= 0 && p.Jitter <= maxJitter):
		return fmt.Errorf("jitter %g%%: want 0%% to %g%%", 100*p.Jitter, 100*maxJitter)
	case len(p.Times()) > maxPlanned:
		return fmt.Errorf("the phases plan more than %d attempts: use longer intervals", maxPlanned)
	}
	return nil
}

func (p Policy) validPhases() error {
	if len(p.Phases) == 0 || len(p.Phases) > maxPhases {
		return fmt.Errorf("%d phases: want 1 to %d", len(p.Phases), maxPhases)
	}
	var begin time.Duration
	for _, phase := range p.Phases {
		switch {
		case phase.Until <= begin || phase.Until > maxRetention:
			return fmt.Errorf("phase %q: want it to end after %s and within %s", phase, FormatDuration(begin), FormatDuration(maxRetention))
		case phase.Every < minInterval || phase.Every > maxInterval:
			return fmt.Errorf("phase %q: want an interval of %s to %s", phase, FormatDuration(minInterval), FormatDuration(maxInterval))
		case !(phase.Factor >= 1 && phase.Factor <= maxFactor):
			return fmt.Errorf("phase %q: want a factor of 1 to %d", phase, maxFactor)
		}
		begin = phase.Until
	}
	return nil
}
