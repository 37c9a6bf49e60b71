package load

import (
	"context"
	"sync/atomic"
	"time"
)

// Pace is an Admit that begins so many messages a second. What couldn't be begun
// in time is begun as soon as it can: an outage lets mail pile up at its senders,
// and then it comes.
func Pace(perSecond int) func(context.Context) bool {
	every := time.Second / time.Duration(perSecond)
	var began, number atomic.Int64
	return func(ctx context.Context) bool {
		began.CompareAndSwap(0, time.Now().UnixNano())
		turn := time.Unix(0, began.Load()).Add(time.Duration(number.Add(1)-1) * every)
		pause(ctx, time.Until(turn))
		return ctx.Err() == nil
	}
}
