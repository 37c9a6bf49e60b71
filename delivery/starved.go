package delivery

import "time"

// starved are the destinations that wait for one of the node's attempts, first
// come, first served. There may be thousands: an attempt that ends makes room for
// one of them, and a look at them all would cost more than the attempt.
type starved struct {
	order []string
	waits map[string]bool
}

// starvedAgain is when a destination is looked at again for which no attempt
// ended: the one that came before it may have had nothing left to do.
const starvedAgain = time.Second

func (s *starved) add(name string) {
	if s.waits[name] {
		return
	}
	if s.waits == nil {
		s.waits = make(map[string]bool)
	}
	s.waits[name] = true
	s.order = append(s.order, name)
}

// take gives the one that has waited longest.
func (s *starved) take() (name string, ok bool) {
	if len(s.order) == 0 {
		return "", false
	}
	name, s.order = s.order[0], s.order[1:]
	delete(s.waits, name)
	return name, true
}
