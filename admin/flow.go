package admin

import (
	"context"
	"fmt"
	"sync"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// Flow remembers how much mail waited for each destination, minute by minute,
// so that the status can tell where it piles up: more comes in than goes out,
// for long. A node begins anew at its start.
type Flow struct {
	state *fsm.State

	mu     sync.Mutex // guards series
	series map[string][]flowSample
}

// flowSample is a minute of a destination.
type flowSample struct {
	at      time.Time
	pending uint64
	left    uint64 // recipients that have ended so far
}

// Mail piles up where what waits rose in each third of the time; the alert rule
// HoldfastQueueGrows has the same time and the same least number.
const (
	flowEvery = time.Minute
	flowFor   = 30 * time.Minute
	flowLeast = 1000
)

// NewFlow remembers what the state says from now on.
func NewFlow(state *fsm.State) *Flow {
	return &Flow{state: state, series: map[string][]flowSample{}}
}

// Run takes a sample each minute until ctx ends.
func (f *Flow) Run(ctx context.Context) error {
	ticker := time.NewTicker(flowEvery)
	defer ticker.Stop()
	for {
		select {
		case at := <-ticker.C:
			if err := f.Sample(at); err != nil {
				return fmt.Errorf("look at the flow of mail: %w", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Sample takes a sample. Destinations with little mail are left out, so that
// what is kept is bounded by those that could be warned of.
func (f *Flow) Sample(at time.Time) error {
	view, err := f.state.View()
	if err != nil {
		return err
	}
	defer view.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := map[string][]flowSample{}
	for _, record := range view.Destinations() {
		name := record.Config.GetName()
		c := view.DestinationCounter(name)
		if c.GetPending() < flowLeast/10 {
			continue
		}
		samples := append(f.series[name], flowSample{at: at, pending: c.Pending, left: c.Delivered + c.Ended})
		for len(samples) > 1 && !samples[1].at.After(at.Add(-flowFor)) {
			samples = samples[1:]
		}
		kept[name] = samples
	}
	f.series = kept
	return nil
}

// pile says how a destination's queue has grown, if it piles up.
func (f *Flow) pile(name string) (in, out, now uint64, piles bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	samples := f.series[name]
	if len(samples) == 0 {
		return 0, 0, 0, false
	}
	first, last := samples[0], samples[len(samples)-1]
	if last.at.Sub(first.at) < flowFor-flowEvery/2 || last.pending < flowLeast {
		return 0, 0, 0, false
	}
	before, third := first, 1
	for _, s := range samples[1:] {
		if s.at.Sub(first.at) < time.Duration(third)*flowFor/3-flowEvery/2 {
			continue
		}
		if s.pending <= before.pending {
			return 0, 0, 0, false
		}
		before = s
		third++
	}
	out = last.left - first.left
	return last.pending - first.pending + out, out, last.pending, true
}

// warnOfPiles leaves out what other warnings say: a destination that is down or
// suspended takes nothing.
func (w window) warnOfPiles(out *warner) {
	if w.flow == nil {
		return
	}
	for _, record := range w.Destinations() {
		name := record.Config.GetName()
		if record.Health.GetState() == pb.DestinationHealth_STATE_DOWN || record.Suspended != nil {
			continue
		}
		if in, left, now, piles := w.flow.pile(name); piles {
			out.warn("piling-up", name, "mail for destination %s piles up: in the last half an hour %d recipients came in and %d left, %s now; `holdfast destination show %s` has its slots, `holdfast queue list --destination %s` shows why they wait",
				name, in, left, recipients(now, "waits", "wait"), name, name)
		}
	}
}
