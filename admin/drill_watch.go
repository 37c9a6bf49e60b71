package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// What a drill has to keep to (docs/operate.md).
const (
	acceptsWithin  = 3 * time.Second
	takesOverAfter = 6 * time.Second
)

// watchEvery is how often the watcher looks at its own state.
const watchEvery = 25 * time.Millisecond

// watch is what the watching node sees of a fault.
type watch struct {
	*drill
	leader     string // before
	began      time.Time
	duplicates uint64 // before

	newLeader, takenOver, back time.Time
	inDoubt                    uint64
	notSuffered                error
}

func (w *watch) begin(ctx context.Context) error {
	w.leader = w.Cluster.Leader()
	w.before, _ = w.State.Node(w.victim)
	var err error
	if w.duplicates, _, err = w.counts(); err != nil {
		return err
	}
	if err := w.Drills.StartFault(ctx, w.victim, w.id, w.index); err != nil {
		return err
	}
	w.began = w.Now()
	w.tell("node %s: %s", w.victim, faultText(w.fault, w.lasts))
	return nil
}

// healed is when the fault is over. A process that was killed can be back at once.
func (w *watch) healed() time.Time {
	if w.fault == pb.Fault_FAULT_KILL {
		return w.began.Add(w.killed())
	}
	return w.began.Add(w.lasts)
}

// killed leaves out what a process still took before its end.
func (w *watch) killed() time.Duration { return 250 * time.Millisecond }

// follow watches until the fault is over and its node is back, or doesn't come.
func (w *watch) follow(ctx context.Context) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	limit := w.began.Add(w.lasts + w.patience)
	over := false
	for {
		if err := w.look(); err != nil {
			return err
		}
		now := w.Now()
		if !over && !now.Before(w.began.Add(w.lasts)) {
			over = true
			w.notSuffered = w.endFault(ctx)
			if w.fault != pb.Fault_FAULT_PAUSE {
				w.notSuffered = nil // that it doesn't answer yet shows as its absence
			}
			w.tell("the time of the fault is over")
		}
		if over && !w.back.IsZero() || now.After(limit) {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look notes what has changed.
func (w *watch) look() error {
	now := w.Now()
	if leader := w.Cluster.Leader(); w.newLeader.IsZero() && w.leader == w.victim && leader != "" && leader != w.victim {
		w.newLeader = now
		w.tell("node %s leads, %s after the fault", leader, since(w.began, now))
	}
	record, _ := w.State.Node(w.victim)
	if w.takenOver.IsZero() && (!record.GetActive() || record.Incarnation != w.before.Incarnation) {
		w.takenOver = now
		w.tell("the others have what node %s was to deliver, %s after the fault", w.victim, since(w.began, now))
	}
	if w.back.IsZero() {
		if at, ok := w.log.since(w.victim, w.healed()); ok && at.After(w.healed()) {
			w.back = at
			w.tell("node %s takes mail again", w.victim)
		}
	}
	_, inDoubt, err := w.counts()
	w.inDoubt = max(w.inDoubt, inDoubt)
	return err
}

func (w *watch) counts() (duplicates, inDoubt uint64, err error) {
	view, err := w.State.View()
	if err != nil {
		return 0, 0, readError(err, "the queue")
	}
	counters := view.Counters()
	return counters.Duplicates, counters.InDoubt, view.Close()
}

func since(from, to time.Time) time.Duration { return to.Sub(from).Round(10 * time.Millisecond) }

func faultText(fault pb.Fault, lasts time.Duration) string {
	switch fault {
	case pb.Fault_FAULT_KILL:
		return "its process is ended at once"
	case pb.Fault_FAULT_PARTITION:
		return fmt.Sprintf("cut off from the others for %s", lasts)
	case pb.Fault_FAULT_PAUSE:
		return fmt.Sprintf("its process stands still for %s", lasts)
	}
	return fmt.Sprintf("its disk counts as full for %s", lasts)
}

// report asks all nodes what they answered 250, and the log whether it is there.
func (w *watch) report(ctx context.Context) (*pb.DrillReport, error) {
	over := w.Now()
	r := &pb.DrillReport{
		Id: w.id, Fault: w.fault, Node: w.victim, Duration: durationpb.New(w.lasts),
		StartedAt: timestamppb.New(w.began), EndedAt: timestamppb.New(over),
		LeaderBefore: w.leader, LeaderAfter: w.Cluster.Leader(),
		WithoutAcceptance: durationpb.New(w.log.longestGap(w.began, over, w.members...)),
		InDoubt:           w.inDoubt,
	}
	for _, t := range []struct {
		at   time.Time
		from time.Time
		to   **durationpb.Duration
	}{{w.newLeader, w.began, &r.NewLeader}, {w.takenOver, w.began, &r.TakenOver}, {w.back, w.healed(), &r.Back}} {
		if !t.at.IsZero() {
			*t.to = durationpb.New(t.at.Sub(t.from))
		}
	}
	answered := map[string][]string{} // by node
	for _, name := range slices.Sorted(slices.Values(w.members)) {
		n := &pb.DrillReport_Node{Name: name, WithoutAcceptance: durationpb.New(w.log.longestGap(w.began, over, name))}
		ids, err := w.answeredBy(ctx, name)
		if err != nil {
			n.Error = status.Convert(err).Message()
		}
		answered[name], n.Answered = ids, uint64(len(ids))
		r.Answered += n.Answered
		r.Nodes = append(r.Nodes, n)
	}
	// What was answered is in the log before this event, or nowhere.
	if _, err := w.end(ctx); err != nil {
		return nil, err
	}
	if err := w.findLost(r, answered); err != nil {
		return nil, err
	}
	duplicates, _, err := w.counts()
	r.Duplicates = duplicates - min(duplicates, w.duplicates)
	w.judge(r)
	w.Logger.Info("administration", "drill", w.id, "fault", w.fault.String(), "on", w.victim, "answered", r.Answered,
		"lost", len(r.Lost), "without_acceptance", r.WithoutAcceptance.AsDuration(), "missed", r.Missed)
	return r, err
}

func (w *watch) answeredBy(ctx context.Context, name string) (ids []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.Patience)
	defer cancel()
	err = w.Drills.Answered(ctx, name, w.id, func(part []string) error {
		ids = append(ids, part...)
		return nil
	})
	return ids, err
}

// findLost looks for each message in the state, whatever has become of it.
func (w *watch) findLost(r *pb.DrillReport, answered map[string][]string) error {
	view, err := w.State.View()
	if err != nil {
		return readError(err, "the log")
	}
	for _, n := range r.Nodes {
		for _, text := range answered[n.Name] {
			id, err := relay.ParseMessageID(text)
			if err == nil {
				_, err = view.Message(id)
			} else {
				err = fsm.ErrNotFound // a line that no node wrote
			}
			if errors.Is(err, fsm.ErrNotFound) {
				r.Lost = append(r.Lost, text)
				continue
			}
			if err != nil {
				return errors.Join(readError(err, text), view.Close())
			}
		}
	}
	return view.Close()
}

// judge says what was not as it should be.
func (w *watch) judge(r *pb.DrillReport) {
	missed := func(format string, args ...any) { r.Missed = append(r.Missed, fmt.Sprintf(format, args...)) }
	if n := len(r.Lost); n > 0 {
		missed("%d messages were answered 250 and are not in the log", n)
	}
	for _, n := range r.Nodes {
		if n.Error != "" {
			missed("what node %s has answered is not known: %s", n.Name, n.Error)
		}
	}
	if w.notSuffered != nil {
		missed("node %s did not suffer it: %v", w.victim, w.notSuffered)
	}
	if gap := r.WithoutAcceptance.AsDuration(); gap > acceptsWithin {
		missed("no node took mail for %s, at most %s is allowed", gap.Round(10*time.Millisecond), acceptsWithin)
	}
	if w.back.IsZero() {
		missed("node %s is not back: look whether its process runs", w.victim)
	}
	if w.fault == pb.Fault_FAULT_DISK_FULL {
		if at, ok := w.log.since(w.victim, w.began.Add(acceptsWithin)); ok && at.Before(w.healed()) {
			missed("node %s took mail while its disk counted as full", w.victim)
		}
		return
	}
	switch {
	case r.TakenOver == nil:
		missed("nobody took over what node %s was to deliver", w.victim)
	case r.TakenOver.AsDuration() > takesOverAfter:
		missed("its deliveries were taken over after %s, at most %s is allowed", r.TakenOver.AsDuration().Round(10*time.Millisecond), takesOverAfter)
	}
	if w.leader == w.victim && r.NewLeader == nil && !w.ledAgain(r) {
		missed("no other node led")
	}
}

// ledAgain says whether a leader that was killed came back before the others had
// voted, and won: a supervisor can be that fast, and it is no fault.
func (w *watch) ledAgain(r *pb.DrillReport) bool {
	return w.fault == pb.Fault_FAULT_KILL && r.Back != nil && r.LeaderAfter == w.victim
}

// gapIn is the longest time between two of the times that reaches into a window,
// whose end counts as one of them.
func gapIn(all []time.Time, from, to time.Time) (longest time.Duration) {
	all = append(slices.Clone(all), to)
	slices.SortFunc(all, time.Time.Compare)
	last := from
	for _, at := range all {
		if at.After(to) {
			break
		}
		if at.After(from) {
			longest = max(longest, at.Sub(last))
		}
		last = at
	}
	return longest
}
