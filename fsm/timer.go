package fsm

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// timer measures how long Apply takes. It lives outside the apply files, which
// may not read a clock: nothing of it reaches the state.
type timer struct{ start time.Time }

func startTimer() timer { return timer{start: time.Now()} }

func (t timer) observe(h prometheus.Histogram) { h.Observe(time.Since(t.start).Seconds()) }
