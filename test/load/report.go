package load

import (
	"slices"
	"time"
)

// Report is what a run came to.
type Report struct {
	Began, Ended       time.Time
	Window             time.Duration // in which messages were begun
	Answers            []Answer      // in the order of their arrival
	Connections        int64
	ConnectionsRefused int64 // dialled in vain, or no greeting
	// How often a session that roams went through all addresses in vain.
	Stranded int64
}

// Count is the number of messages with an outcome.
func (r *Report) Count(outcome Outcome) int {
	n := 0
	for i := range r.Answers {
		if r.Answers[i].Outcome == outcome {
			n++
		}
	}
	return n
}

// Rate is the number of acceptances a second while messages were begun: the last
// stragglers don't stretch the time.
func (r *Report) Rate() float64 {
	n, end := 0, r.Began.Add(r.Window)
	for i := range r.Answers {
		if r.Answers[i].Outcome == Accepted && !r.Answers[i].At.After(end) {
			n++
		}
	}
	return float64(n) / r.Window.Seconds()
}

// Latency is a quantile (0 to 1) of the time from the final dot to its 250.
func (r *Report) Latency(quantile float64) time.Duration {
	var all []time.Duration
	for i := range r.Answers {
		if r.Answers[i].Outcome == Accepted {
			all = append(all, r.Answers[i].Latency)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(int(quantile*float64(len(all))), len(all)-1)]
}

// LongestGap is the longest time between from and to in which the address ("" is
// any) answered no 250, and when it began. The ends count as answers: a server
// silent from the start has a gap as long as the run.
func (r *Report) LongestGap(address string, from, to time.Time) (longest time.Duration, began time.Time) {
	last := from
	consider := func(at time.Time) {
		if gap := at.Sub(last); gap > longest {
			longest, began = gap, last
		}
		last = at
	}
	for i := range r.Answers {
		a := &r.Answers[i]
		if a.Outcome != Accepted || address != "" && a.Address != address {
			continue
		}
		// Answers arrive in order but for the moment between time and lock.
		if a.At.Before(last) || a.At.After(to) {
			continue
		}
		consider(a.At)
	}
	consider(to)
	return longest, began
}
