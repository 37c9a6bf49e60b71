package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	pb "holdfast/proto/holdfast/v1"
)

// drillPatience is how long after the fault its node may take to be back.
const drillPatience = 45 * time.Second

// drill is one drill, on the node that watches it.
type drill struct {
	*node
	fault    pb.Fault
	victim   string
	lasts    time.Duration
	patience time.Duration
	members  []string
	tell     func(format string, args ...any)

	id     string
	index  uint64 // of DrillStarted
	before *pb.NodeRecord
	log    *acceptanceLog
}

// run carries the drill out. Whatever becomes of ctx, the fault is ended and the
// end is told.
func (d *drill) run(ctx context.Context) (*pb.DrillReport, error) {
	if err := d.announce(ctx); err != nil {
		return nil, err
	}
	ended := false
	after := context.WithoutCancel(ctx)
	defer func() {
		if !ended {
			// Both are over by themselves in time, too.
			_ = d.endFault(after)
			_, _ = d.end(after)
		}
	}()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer stop()
	d.log = newAcceptanceLog(d.members, d.Now)
	for _, name := range d.members {
		watchers.Go(func() {
			if err := d.Drills.WatchAcceptance(watching, name, func(why string) { d.log.add(name, why) }); err != nil {
				d.Logger.Warn("drill: a node can't be watched", "watched", name, "error", err)
			}
		})
	}
	if err := d.log.awaitAll(ctx, d.Patience); err != nil {
		return nil, precondition("cluster", "", "no drill now: %v", err)
	}
	w := &watch{drill: d}
	if err := w.begin(ctx); err != nil {
		return nil, err
	}
	if err := w.follow(ctx); err != nil {
		return nil, err
	}
	stop()
	watchers.Wait()
	report, err := w.report(after)
	ended = err == nil
	return report, err
}

// announce brings the drill into the log, and to every node.
func (d *drill) announce(ctx context.Context) error {
	id, err := ulid.New(ulid.Timestamp(d.Now()), rand.Reader)
	if err != nil {
		return err
	}
	d.id = id.String()
	event := &pb.Event{Kind: &pb.Event_DrillStarted{DrillStarted: &pb.DrillStarted{
		Id: d.id, Fault: d.fault, Node: d.victim, Duration: int64(d.lasts), By: operatorOf(ctx),
		Until: d.Now().Add(d.Patience + d.lasts + d.patience + d.Patience).UnixNano(),
	}}}
	if d.index, err = d.propose(ctx, event, "drill on node "+d.victim); err != nil {
		return err
	}
	if err := d.inEffect(ctx, d.index); err != nil {
		_, ending := d.end(context.WithoutCancel(ctx))
		return errors.Join(err, ending)
	}
	return nil
}

// end tells the log that the drill is over. What was answered before it is
// applied here then, where it ever will be.
func (d *drill) end(ctx context.Context) (uint64, error) {
	event := &pb.Event{Kind: &pb.Event_DrillEnded{DrillEnded: &pb.DrillEnded{Id: d.id}}}
	index, err := d.propose(ctx, event, "end of the drill")
	if err == nil {
		err = d.applied(ctx, index)
	}
	return index, err
}

// endFault is for a fault that is still on: where it can't be told, its node
// ends it in time.
func (d *drill) endFault(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return d.Drills.EndFault(ctx, d.victim, d.id)
}

// acceptanceLog is when which node would have taken a message.
type acceptanceLog struct {
	now func() time.Time

	mu    sync.Mutex // guards the fields below
	nodes map[string]*acceptances
	first chan struct{} // closed once each has taken one
	left  int
}

type acceptances struct {
	at  []time.Time
	why string // of the latest refusal
}

func newAcceptanceLog(nodes []string, now func() time.Time) *acceptanceLog {
	l := &acceptanceLog{now: now, nodes: map[string]*acceptances{}, first: make(chan struct{}), left: len(nodes)}
	for _, name := range nodes {
		l.nodes[name] = &acceptances{}
	}
	return l
}

func (l *acceptanceLog) add(node, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.nodes[node]
	if a.why = why; why != "" {
		return
	}
	if len(a.at) == 0 {
		if l.left--; l.left == 0 {
			close(l.first)
		}
	}
	a.at = append(a.at, l.now())
}

func (l *acceptanceLog) awaitAll(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-l.first:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, a := range l.nodes {
		if len(a.at) == 0 {
			return fmt.Errorf("node %s takes no mail: %s", name, a.why)
		}
	}
	return ctx.Err()
}

// since is the first acceptance by a node at or after a time.
func (l *acceptanceLog) since(node string, at time.Time) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, accepted := range l.nodes[node].at {
		if !accepted.Before(at) {
			return accepted, true
		}
	}
	return time.Time{}, false
}

// longestGap is the longest time between two acceptances by any of the nodes
// that reaches into the window, whose end counts as one.
func (l *acceptanceLog) longestGap(from, to time.Time, nodes ...string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []time.Time
	for _, name := range nodes {
		all = append(all, l.nodes[name].at...)
	}
	return gapIn(all, from, to)
}
