package model

import (
	"fmt"
	"testing"
	"hash/maphash"
	"time"
)

func TestTry(t *testing.T) {
	for _, f := range []faults{{downs:1},{downs:1,hiccups:1}} {
	logs, _ := newLogs(allRules)
	x := &explorer{model: &model{scope: scope{leader: 1, faults: f}, logs: logs}, seed: maphash.MakeSeed(), ids: map[uint64]int32{}}
	b := x.begin()
	level := []world{b}
	x.worlds = append(x.worlds, visited{})
	begin := time.Now()
	for d := 0; len(level) > 0 && time.Since(begin) < 20*time.Second; d++ {
		var next []world
		for i := range level {
			x.successors(&level[i], func(s step, w world) {
				if x.reach(s, &w, 0, 0) {
					next = append(next, w)
				}
			})
		}
		ml := 0
		for _, n := range logs.nodes { ml = max(ml, len(n.path)) }
		fmt.Println(d, len(level), len(x.worlds), len(logs.nodes), logs.opened, ml, time.Since(begin).Milliseconds())
		level = next
	}
	if len(level)>0 {
	w := level[0]
	for _, s := range logs.nodes[w.log].path { fmt.Println("  ", logs.nodes[s].facts.entry, logs.nodes[s].facts.result) }
	fmt.Printf("%+v\n", w)
	}
	}
}
