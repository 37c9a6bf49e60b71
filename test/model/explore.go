package model

import (
	"errors"
	"hash/maphash"
)

// Finding is what an exploration came to.
type Finding struct {
	Scope  string
	States int
	Logs   int
	Broken promise // "": none of the promises
	Story  []string
}

// visited is what is kept of a world: how it was reached, and where it leads
// without another fault.
type visited struct {
	from    int32
	ordinal uint16 // which successor of from
	settled bool
}

type edge struct{ from, to int32 }

type explorer struct {
	*model
	seed   maphash.Seed
	ids    map[uint64]int32 // by the hash of the world
	worlds []visited
	fair   []edge
}

// explore visits every world of a scope, or stops at the first broken promise.
func explore(s scope, without Rule) (finding Finding, err error) {
	logs, err := newLogs(without)
	if err != nil {
		return Finding{}, err
	}
	defer func() { err = errors.Join(err, logs.close()) }()
	x := &explorer{
		model: &model{scope: s, without: without, logs: logs},
		seed:  maphash.MakeSeed(), ids: make(map[uint64]int32),
	}
	broken, at, last, err := x.run()
	if err != nil {
		return Finding{}, err
	}
	if broken == "" {
		if at = x.stuck(); at >= 0 {
			broken = p1
		}
	}
	finding = Finding{Scope: s.String(), States: len(x.worlds), Logs: len(logs.nodes), Broken: broken}
	if broken != "" {
		finding.Story, err = x.story(at, last)
	}
	return finding, err
}

// run goes breadth first, so that what it finds has no shorter story. It
// returns the world before the step that breaks a promise, and which step.
func (x *explorer) run() (broken promise, at int32, last int, err error) {
	begin := x.begin()
	level := []world{begin}
	x.ids[maphash.Comparable(x.seed, begin)] = 0
	x.worlds = append(x.worlds, visited{from: -1, settled: x.settled(&begin)})
	last = -1
	for first := int32(0); len(level) > 0; {
		var next []world
		for i := range level {
			before, from, ordinal := &level[i], first+int32(i), 0
			err := x.successors(before, func(s step, w world) {
				if broken == "" && x.err == nil {
					if broken = x.check(s, before, &w); broken != "" {
						at, last = from, ordinal
					}
					if x.reach(s, &w, from, uint16(ordinal)) {
						next = append(next, w)
					}
				}
				ordinal++
			})
			if err != nil || broken != "" {
				return broken, at, last, err
			}
		}
		first += int32(len(level))
		level = next
	}
	return "", -1, -1, nil
}

// reach notes a step, and reports whether its world is new. Worlds are told
// apart by 64 bits of hash: of a million of them, two are taken for one with a
// chance of 1 to 30 million.
func (x *explorer) reach(s step, w *world, from int32, ordinal uint16) bool {
	hash := maphash.Comparable(x.seed, *w)
	id, known := x.ids[hash]
	if !known {
		id = int32(len(x.worlds))
		x.ids[hash] = id
		x.worlds = append(x.worlds, visited{from: from, ordinal: ordinal, settled: x.settled(w)})
	}
	if !s.fault {
		x.fair = append(x.fair, edge{from: from, to: id})
	}
	return !known
}

// stuck is the first world from which no schedule without another fault brings
// the message to its end, -1 where there is none.
func (x *explorer) stuck() int32 {
	begins := make([]int32, len(x.worlds)+1) // of each world's edges, by target
	for _, e := range x.fair {
		begins[e.to+1]++
	}
	for i := range x.worlds {
		begins[i+1] += begins[i]
	}
	sources, filled := make([]int32, len(x.fair)), make([]int32, len(x.worlds))
	for _, e := range x.fair {
		sources[begins[e.to]+filled[e.to]] = e.from
		filled[e.to]++
	}
	ends := make([]bool, len(x.worlds))
	var open []int32
	for i := range x.worlds {
		if x.worlds[i].settled {
			ends[i] = true
			open = append(open, int32(i))
		}
	}
	for len(open) > 0 {
		id := open[len(open)-1]
		open = open[:len(open)-1]
		for _, from := range sources[begins[id]:begins[id+1]] {
			if !ends[from] {
				ends[from] = true
				open = append(open, from)
			}
		}
	}
	for i := range ends {
		if !ends[i] {
			return int32(i)
		}
	}
	return -1
}
