package admin

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "holdfast/proto/holdfast/v1"
)

// A supervisor that starts the killed leader again within the others' election
// timeout may see it win: mail went on, so nothing was missed. A leader that was
// cut off or stood still can't lead, so somebody else must.
func TestDrillMissesALeader(t *testing.T) {
	second := durationpb.New(time.Second)
	const missed = "no other node led"
	for name, c := range map[string]struct {
		fault  pb.Fault
		report *pb.DrillReport
		want   bool
	}{
		"killed, another led":       {pb.Fault_FAULT_KILL, &pb.DrillReport{NewLeader: second, TakenOver: second, Back: second, LeaderAfter: "b"}, false},
		"killed, led again":         {pb.Fault_FAULT_KILL, &pb.DrillReport{TakenOver: second, Back: second, LeaderAfter: "a"}, false},
		"killed, nobody led":        {pb.Fault_FAULT_KILL, &pb.DrillReport{TakenOver: second, Back: second}, true},
		"killed, not back":          {pb.Fault_FAULT_KILL, &pb.DrillReport{TakenOver: second, LeaderAfter: "a"}, true},
		"cut off, still the leader": {pb.Fault_FAULT_PARTITION, &pb.DrillReport{TakenOver: second, Back: second, LeaderAfter: "a"}, true},
		"paused, still the leader":  {pb.Fault_FAULT_PAUSE, &pb.DrillReport{TakenOver: second, Back: second, LeaderAfter: "a"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := &watch{drill: &drill{fault: c.fault, victim: "a"}, leader: "a"}
			if c.report.Back != nil {
				w.back = time.Now()
			}
			w.judge(c.report)
			if got := slices.Contains(c.report.Missed, missed); got != c.want {
				t.Errorf("missed %q, want that no other node led: %v", c.report.Missed, c.want)
			}
		})
	}
}
