package fsm

import (
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// MaxFault is the longest fault of a drill.
const MaxFault = 5 * time.Minute

// drillStarted makes one drill at a time, with consent, known to all nodes. A
// drill that nobody ended is over at its time.
func (t *tx) drillStarted(e *pb.DrillStarted) *pb.EventResult {
	running := t.tables.drill
	switch {
	case e.Id == "" || e.Duration <= 0 || e.Duration > int64(MaxFault) || e.Until < t.event.Time+e.Duration:
		return invalid("a drill needs an id, a duration of at most %s, and an end behind it", MaxFault)
	case e.Fault < pb.Fault_FAULT_KILL || e.Fault > pb.Fault_FAULT_DISK_FULL:
		return invalid("this program doesn't know the fault %d", e.Fault)
	case !SettingsOf(t.tables.settings).DrillConsent:
		return stale("drills are not allowed: `holdfast settings set --drill-consent yes` allows them")
	case running != nil && t.event.Time < running.Until:
		return refused(pb.EventResult_CODE_IN_USE, "a drill on node %s is under way until %s at the latest",
			running.Node, time.Unix(0, running.Until).UTC().Format(time.RFC3339))
	}
	if _, ok := lookup(t.tables.nodes, e.Node); !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no node %s in the cluster", e.Node)
	}
	t.tables.drill = &pb.DrillRecord{
		Id: e.Id, Fault: e.Fault, Node: e.Node, Duration: e.Duration,
		Started: t.event.Time, Until: e.Until, By: e.By,
	}
	key := keyOfDrill()
	t.put(key, t.get(key), encode(t.tables.drill))
	t.staged.nodesChanged = true
	return resultOK
}

// drillEnded lets the next one begin.
func (t *tx) drillEnded(e *pb.DrillEnded) *pb.EventResult {
	if t.tables.drill == nil || t.tables.drill.Id != e.Id {
		return stale("drill %s is over already", e.Id)
	}
	t.remove(keyOfDrill(), t.get(keyOfDrill()))
	t.tables.drill = nil
	t.staged.nodesChanged = true
	return resultOK
}

// Drill is the drill that was started last and not ended; it may have run out.
func (s *State) Drill() (*pb.DrillRecord, bool) {
	drill := s.published().drill
	return drill, drill != nil
}

// Drill is as State's.
func (v *View) Drill() (*pb.DrillRecord, bool) { return v.tables.drill, v.tables.drill != nil }
