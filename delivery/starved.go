package delivery

import (
	"container/list"
	"time"

	"holdfast/fsm"
)

// starved are the destinations that wait for one of the node's attempts, first
// come, first served. There may be thousands: an attempt that ends makes room for
// one of them, and a look at them all would cost more than the attempt.
type starved struct {
	order  list.List // of their names
	places map[string]*list.Element
}

// starvedAgain is when a destination is looked at again for which no attempt
// ended: the one that came before it may have had nothing left to do.
const starvedAgain = time.Second

func (s *starved) add(name string) {
	if s.places[name] != nil {
		return
	}
	if s.places == nil {
		s.places = make(map[string]*list.Element)
	}
	s.places[name] = s.order.PushBack(name)
}

// leave gives a destination's place up: it has found an attempt by itself.
func (s *starved) leave(name string) {
	if place := s.places[name]; place != nil {
		s.order.Remove(place)
		delete(s.places, name)
	}
}

// take gives the one that has waited longest.
func (s *starved) take() (name string, ok bool) {
	front := s.order.Front()
	if front == nil {
		return "", false
	}
	name = front.Value.(string)
	s.leave(name)
	return name, true
}

// giveTurn gives a free attempt of a lane to the destination that has waited longest
// for one. It is kept for it: the destination may have to claim first, and while its
// claim is on its way into the log others that have claims would else take every
// attempt that ends.
func (s *Scheduler) giveTurn(l fsm.Lane) {
	if room(l, s.taken(), maxAttempts, maxAttempts) <= 0 {
		return
	}
	next := s.nextStarved(l)
	if next == nil {
		return
	}
	if !next.kept[l] {
		next.kept[l] = true
		s.kept[l]++
	}
	s.turns[next.name] = true
}

// settleTurns gives on what is kept for a destination that has no claim on its way:
// it had nothing to do after all, has no slot free, or may not act.
func (s *Scheduler) settleTurns(q *queue) {
	for l := range fsm.Lanes {
		if q.kept[l] && q.lanes[l].claimed == 0 {
			s.unkeep(q, l)
			s.giveTurn(l)
		}
	}
}

// unkeep ends a turn.
func (s *Scheduler) unkeep(q *queue, l fsm.Lane) {
	if q.kept[l] {
		q.kept[l] = false
		s.kept[l]--
	}
}

// taken are the node's attempts that are running or kept.
func (s *Scheduler) taken() perLane {
	taken := s.running
	for l := range fsm.Lanes {
		taken[l] += s.kept[l]
	}
	return taken
}

// nextStarved takes the destination whose turn it is in a lane. One that is gone,
// went to another node or is suspended meanwhile has no use for it.
func (s *Scheduler) nextStarved(l fsm.Lane) *queue {
	for {
		name, ok := s.starved[l].take()
		if !ok {
			return nil
		}
		if q := s.queues[name]; q != nil && q.owned && q.record.Suspended == nil {
			return q
		}
	}
}
