package admin

import (
	"slices"
	"testing"

	pb "holdfast/proto/holdfast/v1"
)

func TestMemberWarnings(t *testing.T) {
	node := func(name string, voter, alive, draining bool) *pb.GetStatusResponse_Node {
		return &pb.GetStatusResponse_Node{Name: name, Voter: voter, Alive: alive, Draining: draining}
	}
	up := func(names ...string) (nodes []*pb.GetStatusResponse_Node) {
		for _, name := range names {
			nodes = append(nodes, node(name, true, true, false))
		}
		return nodes
	}
	dead := func(name string) *pb.GetStatusResponse_Node { return node(name, true, false, false) }
	for _, tt := range []struct {
		name  string
		nodes []*pb.GetStatusResponse_Node
		want  []string
	}{
		{"all answer", up("a", "b", "c"), nil},
		{"one of three is gone", append(up("a", "b"), dead("c")),
			[]string{"node-down c", "redundancy : 1 of 3 nodes is down: one more loss stops the cluster"}},
		{"one of five is gone", append(up("a", "b", "c", "d"), dead("e")), []string{"node-down e"}},
		{"two of five are gone", append(up("a", "b", "c"), dead("d"), dead("e")),
			[]string{"node-down d", "node-down e", "redundancy : 2 of 5 nodes are down: one more loss stops the cluster"}},
		{"the quorum is gone", append(up("a"), dead("b"), dead("c")), []string{"node-down b", "node-down c"}},
		{"a cluster of one", up("a"), nil},
		{"one catches up", append(up("a", "b", "c"), node("d", false, true, false)), []string{"node-joining d"}},
		{"one is replaced", append(up("a", "b"), dead("c"), node("c", false, true, false)),
			[]string{"node-down c", "node-joining c", "redundancy : 1 of 3 nodes is down: one more loss stops the cluster"}},
		{"one is drained", append(up("a", "b"), node("c", true, true, true)), []string{"node-draining c"}},
		{"one was stopped", append(up("a", "b"), node("c", true, false, true)),
			[]string{"node-down c", "redundancy : 1 of 3 nodes is down: one more loss stops the cluster"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out warner
			warnOfMembers(&out, tt.nodes)
			var got []string
			for _, warning := range out.list {
				line := warning.Code + " " + warning.Subject
				if warning.Subject == "" {
					line += ": " + warning.Text
				}
				got = append(got, line)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A node that is joining isn't one that can't keep up.
func TestWarningOfALaggingNode(t *testing.T) {
	var out warner
	warnOfLag(&out, []*pb.GetStatusResponse_Node{
		{Name: "a", Alive: true, AppliedIndex: 1_000_000}, {Name: "b", Alive: true, AppliedIndex: 1_000_000 - entriesLate},
		{Name: "c", AppliedIndex: 1}, {Name: "new", Alive: true}, {Name: "slow", Alive: true, AppliedIndex: 1_000_000 - entriesLate - 1},
	})
	if len(out.list) != 1 || out.list[0].Subject != "slow" {
		t.Errorf("%v", out.list)
	}
}
