package relay

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// ages reads ages such as "1:30", "2:37:30" or "4d".
func ages(t testing.TB, text string) []time.Duration {
	t.Helper()
	var all []time.Duration
	for _, word := range strings.Fields(text) {
		var d, h, m, s int
		if before, rest, ok := strings.Cut(word, "d"); ok {
			if _, err := fmt.Sscan(before, &d); err != nil {
				t.Fatal(err)
			}
			word = rest
		}
		if word != "" {
			if n, err := fmt.Sscanf(word, "%d:%d:%d", &h, &m, &s); n < 2 {
				t.Fatalf("%q: %v", word, err)
			}
		}
		all = append(all, time.Duration(d)*day+time.Duration(h)*time.Hour+time.Duration(m)*time.Minute+time.Duration(s)*time.Second)
	}
	return all
}

// every lists the ages from, from+step … up to and including to.
func every(from, step, to time.Duration) []time.Duration {
	var all []time.Duration
	for age := from; age <= to; age += step {
		all = append(all, age)
	}
	return all
}

// The times that each shipped policy promises, written by hand; docs/policies.md
// is what the program makes of them.
func TestShippedPolicies(t *testing.T) {
	for _, tt := range []struct {
		name      string
		retention time.Duration
		want      []time.Duration
	}{
		{"five-day", 5 * day, slices.Concat(
			ages(t, "0:00 0:01 0:03 0:07 0:15 0:31 1:03"),
			every(93*time.Minute, 30*time.Minute, 12*time.Hour+3*time.Minute),
			every(14*time.Hour+3*time.Minute, 2*time.Hour, 118*time.Hour+3*time.Minute),
			ages(t, "5d"),
		)},
		{"stepped", 4 * day, slices.Concat(
			ages(t, "0:00 0:15 0:30 0:45 1:00 1:15 1:30 1:45 2:00"),
			ages(t, "2:15 2:37:30 3:11:15 4:01:53 5:17:49 7:11:43 10:02:35 14:18:52"),
			ages(t, "20:43:18"), // the interval that crosses 16 h runs its full length
			ages(t, "1d2:43:18 1d8:43:18 1d14:43:18 1d20:43:18"),
			ages(t, "2d2:43:18 2d8:43:18 2d14:43:18 2d20:43:18"),
			ages(t, "3d2:43:18 3d8:43:18 3d14:43:18 3d20:43:18"),
			ages(t, "4d"),
		)},
		{"eleven", 4 * day, ages(t, "0:00 0:05 0:15 0:35 1:15 2:35 5:15 10:35 21:15 1d18:35 3d13:15")},
		{"month", 30 * day, slices.Concat(
			every(0, 15*time.Minute, 2*time.Hour), every(3*time.Hour, time.Hour, day),
			every(28*time.Hour, 4*time.Hour, 30*day),
		)},
		{"month-extended", 45 * day, slices.Concat(
			every(0, 15*time.Minute, 2*time.Hour), every(3*time.Hour, time.Hour, day),
			every(28*time.Hour, 4*time.Hour, 30*day), every(30*day+6*time.Hour, 6*time.Hour, 45*day),
		)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, ok := ShippedPolicy(tt.name)
			if !ok {
				t.Fatal("there is no such policy")
			}
			if err := p.Validate(); err != nil {
				t.Error(err)
			}
			if p.Retention != tt.retention || p.Jitter != 0.1 || p.WarnAfter != 0 {
				t.Errorf("retention %s, jitter %g, warning after %s", p.Retention, p.Jitter, p.WarnAfter)
			}
			var got []time.Duration
			for _, age := range p.Times() {
				got = append(got, age.Round(time.Second))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("attempts at\n%v, want\n%v", got, tt.want)
			}
		})
	}
	if n := len(ShippedPolicies()); n != 5 {
		t.Errorf("%d policies are shipped", n)
	}
	if p, _ := ShippedPolicy("eleven"); len(p.Times()) != 11 || p.MaxAttempts != 11 {
		t.Errorf("eleven makes %d attempts, at most %d", len(p.Times()), p.MaxAttempts)
	}
	if p, _ := ShippedPolicy("month"); len(p.Times()) != 205 {
		t.Errorf("month makes %d attempts", len(p.Times()))
	}
}

// run makes attempts as Next says, with chances drawn, until the message is
// returned.
func run(p Policy, chance func() float64) []time.Duration {
	accepted := time.Unix(1_700_000_000, 0)
	made := []time.Duration{0}
	for now := accepted; len(made) != p.MaxAttempts && now.Sub(accepted) < p.Retention; {
		now = p.Next(accepted, now, chance())
		made = append(made, now.Sub(accepted))
	}
	return made
}

// Jitter never makes one of the eleven attempts, and never takes one away.
func TestElevenWithJitter(t *testing.T) {
	p := eleven()
	random := rand.New(rand.NewPCG(1, 2))
	for _, chance := range []func() float64{
		func() float64 { return 0 }, func() float64 { return 1 }, func() float64 { return 0.5 }, random.Float64,
	} {
		made := run(p, chance)
		if len(made) != 11 || made[10] > 4*day {
			t.Errorf("attempts at %v", made)
		}
	}
}

// Whatever the policy: attempts follow each other in time, by the interval of
// their age give or take the jitter, and the last one comes with the end.
func TestAnyPolicy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Policy{Name: "any", Jitter: float64(rapid.IntRange(0, 500).Draw(t, "jitter")) / 1000}
		age := time.Duration(0)
		for range rapid.IntRange(1, 5).Draw(t, "phases") {
			age += time.Duration(rapid.Int64Range(int64(time.Minute), int64(3*day)).Draw(t, "length"))
			p.Phases = append(p.Phases, RetryPhase{
				Until: age, Every: time.Duration(rapid.Int64Range(int64(time.Minute), int64(day)).Draw(t, "every")),
				Factor: float64(rapid.IntRange(1000, 3000).Draw(t, "factor")) / 1000,
			})
		}
		p.Retention = time.Duration(rapid.Int64Range(int64(time.Minute), int64(20*day)).Draw(t, "retention"))
		if err := p.Validate(); err != nil {
			if strings.Contains(err.Error(), "more than 10000 attempts") {
				return
			}
			t.Fatal(err)
		}
		made := run(p, func() float64 { return rapid.Float64Range(0, 1).Draw(t, "chance") })
		for i, age := range made[1:] {
			before := made[i]
			interval, step := p.intervalAt(before), age-before
			low, high := float64(interval)*(1-p.Jitter)-1, float64(interval)*(1+p.Jitter)+1
			if last := i == len(made)-2; float64(step) > high || step <= 0 || float64(step) < low && !last {
				t.Fatalf("from %s to %s, the interval is %s", before, age, interval)
			}
		}
		if last := made[len(made)-1]; last != p.Retention {
			t.Errorf("the last attempt is at %s, the message is returned at %s", last, p.Retention)
		}
	})
}

func TestPhaseText(t *testing.T) {
	for _, text := range []string{
		"until=2h,every=15m", "until=16h,every=15m,factor=1.5", "until=1d12h,every=30s,factor=1.125",
	} {
		phase, err := ParsePhase(text)
		if err != nil || phase.String() != text {
			t.Errorf("%q is read as %q, %v", text, phase, err)
		}
	}
	for text, want := range map[string]string{
		"":                               "unknown option",
		"until=2h":                       "want until=AGE,every=INTERVAL",
		"every=2h":                       "want until=AGE,every=INTERVAL",
		"until=2h,every=15m,times=3":     `unknown option "times"`,
		"until=2h,every=soon":            "every: duration",
		"until=2h,every=15m,factor=1.5x": "want a number such as",
		"until=2h,every=15m,factor=-1":   "want a number such as",
		"until=2h,every=15m,factor=":     "want a number such as",
	} {
		if _, err := ParsePhase(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for text, want := range map[string]float64{"10%": 0.1, "0": 0, "2.5%": 0.025, "50": 0.5} {
		if got, err := ParsePercent(text); err != nil || got != want {
			t.Errorf("%q: %g, %v", text, got, err)
		}
	}
	if _, err := ParsePercent("many"); err == nil {
		t.Error("many is a percentage")
	}
}

func TestValidatePolicy(t *testing.T) {
	good := func() Policy {
		return Policy{
			Name: "own", Retention: day, MaxAttempts: 9, WarnAfter: time.Hour, Jitter: 0.2,
			Phases: []RetryPhase{{Until: time.Hour, Every: time.Minute, Factor: 1}},
		}
	}
	if err := good().Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Policy){
		`policy ""`:                       func(p *Policy) { p.Name = "" },
		`policy "a b"`:                    func(p *Policy) { p.Name = "a b" },
		"0 phases":                        func(p *Policy) { p.Phases = nil },
		"21 phases":                       func(p *Policy) { p.Phases = make([]RetryPhase, 21) },
		"to end after 0s":                 func(p *Policy) { p.Phases[0].Until = 0 },
		"to end after 1h":                 func(p *Policy) { p.Phases = append(p.Phases, p.Phases[0]) },
		"within 366d":                     func(p *Policy) { p.Phases[0].Until = 400 * day },
		"an interval of 1s":               func(p *Policy) { p.Phases[0].Every = 0 },
		"a factor of 1 to 10":             func(p *Policy) { p.Phases[0].Factor = 0.5 },
		"retention 0s":                    func(p *Policy) { p.Retention = 0 },
		"retention 400d":                  func(p *Policy) { p.Retention = 400 * day },
		"-1 attempts":                     func(p *Policy) { p.MaxAttempts = -1 },
		"before the end of the retention": func(p *Policy) { p.WarnAfter = day },
		"jitter 60%":                      func(p *Policy) { p.Jitter = 0.6 },
		"plan more than 10000 attempts":   func(p *Policy) { p.MaxAttempts, p.Phases[0].Every = 0, time.Second },
	} {
		p := good()
		change(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
