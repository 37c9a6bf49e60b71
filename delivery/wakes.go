package delivery

import (
	"container/heap"
	"time"
)

// wakes are the times at which destinations have something due. An entry that
// is no longer true costs one look.
type wakes struct {
	heap wakeHeap
	next map[string]time.Time // the earliest entry of each destination
}

type wake struct {
	at   time.Time
	name string
}

// longest is how long the scheduler sleeps where nothing is due.
const longest = time.Minute

func (w *wakes) add(name string, at time.Time) {
	if w.next == nil {
		w.next = make(map[string]time.Time)
	}
	if known, ok := w.next[name]; ok && !at.Before(known) {
		return
	}
	w.next[name] = at
	heap.Push(&w.heap, wake{at: at, name: name})
}

func (w *wakes) wait(now time.Time) time.Duration {
	if len(w.heap) == 0 {
		return longest
	}
	return min(longest, max(0, w.heap[0].at.Sub(now)))
}

// due takes the destinations whose time has come.
func (w *wakes) due(now time.Time) []string {
	var names []string
	for len(w.heap) > 0 && !w.heap[0].at.After(now) {
		top := heap.Pop(&w.heap).(wake)
		if w.next[top.name].Equal(top.at) {
			delete(w.next, top.name)
			names = append(names, top.name)
		}
	}
	return names
}

type wakeHeap []wake

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h wakeHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *wakeHeap) Push(x any)        { *h = append(*h, x.(wake)) }
func (h *wakeHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
