package delivery

import (
	"errors"
	"maps"
	"slices"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// claimsProposed is the answer to a proposal of claims.
type claimsProposed struct {
	queue       string
	incarnation uint64
	attempts    []uint64
	err         error
}

// claimDue claims due recipients, up to twice the slots with those that are
// outstanding, so that the next ones are granted while these are delivered.
// One proposal at a time: what becomes due meanwhile goes with the next.
func (s *Scheduler) claimDue(q *queue) {
	now := s.cfg.Now()
	q.settleDown(now)
	if q.proposed || s.paused(q, now) {
		return
	}
	taken, foreign := q.outstanding(), s.cfg.State.ForeignClaims(q.name, s.incarnation)
	most := 2*q.slots() - foreign
	ahead := min(q.beside(2*q.limit, foreign, now), most)
	var claims []*pb.AttemptStarted_Claim
	for l := range fsm.Lanes {
		want := min(room(l, taken, ahead, most), maxClaims-len(claims))
		if want <= 0 || s.isQuiet(q, l, now) || s.isStarved(q, l, now) {
			continue
		}
		due, err := s.dueClaims(q, l, want)
		if err != nil {
			s.log.Error("read queue", "destination", q.name, "error", err)
			break // what the other lanes gave is noted as claimed: it is proposed all the same
		}
		claims = append(claims, due...)
		taken[l] += len(due)
		for _, c := range due {
			q.claim(c.Attempt, l)
		}
	}
	s.proposeClaims(q, claims)
}

// isQuiet reports whether nothing in a lane is due yet, without a look.
func (s *Scheduler) isQuiet(q *queue, l fsm.Lane, now time.Time) bool {
	if !now.Before(q.lanes[l].quiet) {
		return false
	}
	s.wakes.add(q.name, q.lanes[l].quiet)
	return true
}

// paused keeps claims that aren't granted, for whatever reason, from filling
// the log.
func (s *Scheduler) paused(q *queue, now time.Time) bool {
	if !now.Before(q.pause) {
		return false
	}
	s.wakes.add(q.name, q.pause)
	return true
}

// isStarved reports whether the node has as many attempts of a lane as it may
// have; one that ends comes back to this destination when its turn comes.
func (s *Scheduler) isStarved(q *queue, l fsm.Lane, now time.Time) bool {
	taken := s.taken()
	if q.kept[l] {
		taken[l]--
	}
	if room(l, taken, maxAttempts, maxAttempts) > 0 {
		s.starved[l].leave(q.name)
		return false
	}
	s.starved[l].add(q.name)
	s.wakes.add(q.name, now.Add(starvedAgain))
	return true
}

// dueClaims reads a lane from the cursor on and groups recipients of one
// message into one attempt.
func (s *Scheduler) dueClaims(q *queue, number fsm.Lane, want int) ([]*pb.AttemptStarted_Claim, error) {
	l := &q.lanes[number]
	rows, err := s.cfg.State.Waiting(q.name, number, l.cursor, want+maxRecipients)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	if len(rows) < want+maxRecipients {
		l.quiet = now.Add(forever) // unless one of the rows says otherwise
	}
	var claims []*pb.AttemptStarted_Claim
	for _, row := range rows {
		if row.At.After(now) {
			l.cursor, l.quiet = row.Key, row.At
			s.wakes.add(q.name, row.At)
			return claims, nil
		}
		joins := len(claims) > 0 && relay.MessageID(claims[len(claims)-1].MessageId) == row.ID &&
			len(claims[len(claims)-1].Recipients) < maxRecipients
		if !joins && len(claims) == want {
			l.cursor, l.quiet = row.Key, time.Time{}
			return claims, nil
		}
		if joins {
			// The order of due times is not that of RCPT, in which events list recipients.
			last := claims[len(claims)-1]
			at, _ := slices.BinarySearch(last.Recipients, row.Recipient)
			last.Recipients = slices.Insert(last.Recipients, at, row.Recipient)
		} else {
			claims = append(claims, s.newClaim(q, row))
		}
		l.cursor = row.Key.Behind()
	}
	return claims, nil
}

func (s *Scheduler) newClaim(q *queue, row fsm.Due) *pb.AttemptStarted_Claim {
	s.lastAttempt++
	return &pb.AttemptStarted_Claim{
		Attempt: s.lastAttempt, MessageId: row.ID[:], Recipients: []uint32{row.Recipient},
		Destination: q.name, Probe: !q.up(),
	}
}

// claimProbe claims one message for a destination that isn't up, when its probe
// is due. Any waiting message will do, whenever it would be due itself; the one
// that waits longest goes first, and behind all others when the probe fails.
func (s *Scheduler) claimProbe(q *queue) {
	at, now := time.Unix(0, q.record.Health.NextProbe), s.cfg.Now()
	if q.probing() || q.proposed || s.paused(q, now) {
		return // its end comes back here
	}
	if now.Before(at) {
		s.wakes.add(q.name, at)
		return
	}
	first, err := s.longestWaiting(q)
	if err != nil {
		s.log.Error("read queue", "destination", q.name, "error", err)
		return
	}
	if first == nil || first.unreadable || q.silent {
		s.probeAlone(q)
		return
	}
	claim := s.newClaim(q, first.Due)
	q.claim(claim.Attempt, first.lane)
	s.proposeClaims(q, []*pb.AttemptStarted_Claim{claim})
}

// candidate is a recipient whose message may go out as a probe.
type candidate struct {
	fsm.Due
	lane fsm.Lane
	// unreadable: the latest node to try couldn't read it. Where the next one can't either,
	// nothing is said to the host.
	unreadable bool
}

// probeChoice is how many rows of a lane are looked at for a probe.
const probeChoice = 10

// longestWaiting is the first to be due of all lanes, nil where nothing waits; one that
// couldn't be read comes behind all others.
func (s *Scheduler) longestWaiting(q *queue) (first *candidate, err error) {
	view, err := s.cfg.State.View()
	if err != nil {
		return nil, err
	}
	defer view.Close()
	for l := range fsm.Lanes {
		rows, err := s.cfg.State.Waiting(q.name, l, nil, probeChoice)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			record, err := view.Recipient(row.ID, row.Recipient)
			damaged := err != nil && !errors.Is(err, fsm.ErrNotFound)
			switch {
			case errors.Is(err, fsm.ErrClosed):
				return nil, err
			case damaged:
				// Without a probe the destination would stay down, and with this node.
				s.log.Error("read queue", "destination", q.name, "id", row.ID, "error", err)
			}
			c := &candidate{Due: row, lane: l, unreadable: damaged || lastUnreadable(record)}
			if first == nil || c.before(first) {
				first = c
			}
			if !c.unreadable {
				break // the rest of the lane is due later
			}
		}
	}
	return first, nil
}

func (c *candidate) before(other *candidate) bool {
	if c.unreadable != other.unreadable {
		return other.unreadable
	}
	return c.At.Before(other.At)
}

func (s *Scheduler) proposeClaims(q *queue, claims []*pb.AttemptStarted_Claim) {
	if len(claims) == 0 {
		return
	}
	answer := claimsProposed{queue: q.name, incarnation: s.incarnation}
	for _, c := range claims {
		answer.attempts = append(answer.attempts, c.Attempt)
	}
	q.proposed = true
	event := &pb.Event{
		Time: s.cfg.Now().UnixNano(),
		Kind: &pb.Event_AttemptStarted{AttemptStarted: &pb.AttemptStarted{Claims: claims}},
	}
	s.start(func() func() {
		_, index, err := s.cfg.Proposer.Propose(s.outcomes, event, nil)
		if err == nil {
			// Claims are granted by Apply here; those that aren't by now never will be.
			err = s.cfg.State.WaitApplied(s.outcomes, index)
		}
		answer.err = err
		return func() { s.claimsAnswered(answer) }
	})
}

// claimsAnswered gives up the claims that weren't granted. The feed may tell of
// the others a moment later.
func (s *Scheduler) claimsAnswered(answer claimsProposed) {
	s.absorb(s.cfg.State.TakeChanges())
	q := s.queues[answer.queue]
	if q == nil {
		return
	}
	q.proposed = false
	s.markDirty(q.name)
	if answer.incarnation != s.incarnation {
		return
	}
	if answer.err != nil {
		s.log.Warn("claim", "destination", q.name, "error", answer.err)
	}
	denied := 0
	for _, attempt := range answer.attempts {
		claim := &pb.ClaimRef{Incarnation: s.incarnation, Attempt: attempt}
		_, waits := q.claiming[attempt]
		// One that holds and isn't granted by now came with a state that was installed:
		// the reconciliation gives it back.
		if waits && (answer.err == nil || !s.cfg.State.HoldsClaim(claim)) {
			// Its rows are still in the queue, behind the cursor.
			q.claimed(attempt)
			q.rewind()
			denied++
		}
	}
	s.metrics.claims.WithLabelValues("denied").Add(float64(denied))
	s.metrics.claims.WithLabelValues("granted").Add(float64(len(answer.attempts) - denied))
	if denied == len(answer.attempts) {
		q.pause = s.cfg.Now().Add(claimPause)
	}
}

// granted queues a claim that holds for a slot.
func (s *Scheduler) granted(grant fsm.Grant) {
	if grant.Claim.Incarnation != s.incarnation {
		return
	}
	q := s.queues[grant.Record.Destination]
	if q == nil {
		return // the reconciliation gives it back
	}
	l := &q.lanes[q.claimed(grant.Claim.Attempt)]
	l.ready = append(l.ready, grant)
	s.markDirty(q.name)
}

// startReady starts granted claims while there are slots, lane by lane.
func (s *Scheduler) startReady(q *queue) {
	if !q.up() {
		s.releaseReady(q, func(g fsm.Grant) bool { return !isProbe(g) })
	}
	for number := range fsm.Lanes {
		l := &q.lanes[number]
		for len(l.ready) > 0 && !s.isStarved(q, number, s.cfg.Now()) {
			// The outage took a connection away that the probe may have.
			if !isProbe(l.ready[0]) && s.freeSlots(q, number) <= 0 {
				break
			}
			grant := l.ready[0]
			l.ready = l.ready[1:]
			s.startAttempt(q, number, grant)
		}
	}
}

// freeSlots counts other nodes' live claims, left from before a change of
// owner, as slots in use, and connections until they are closed.
func (s *Scheduler) freeSlots(q *queue, l fsm.Lane) int {
	limit := q.beside(q.limit, s.cfg.State.ForeignClaims(q.name, s.incarnation), s.cfg.Now()) - q.closing
	// Call-outs take slots, and nothing of the concurrency that mail has come to.
	return min(room(l, q.inSlots(), limit, q.slots()-s.elsewhere(q)), s.freePlaces(q))
}

// freePlaces are the slots that nobody has.
func (s *Scheduler) freePlaces(q *queue) int {
	return q.slots() - q.inSlots().all() - len(q.calling) - s.elsewhere(q)
}

// elsewhere are slots in use for nothing that this node does.
func (s *Scheduler) elsewhere(q *queue) int {
	return q.closing + s.cfg.State.ForeignClaims(q.name, s.incarnation)
}

// releaseReady gives claims back that have no attempt yet.
func (s *Scheduler) releaseReady(q *queue, which func(fsm.Grant) bool) {
	for i := range q.lanes {
		l := &q.lanes[i]
		var given []fsm.Grant
		for _, grant := range l.ready {
			if which(grant) {
				given = append(given, grant)
			}
		}
		l.ready = slices.DeleteFunc(l.ready, which)
		s.giveBack(given)
	}
}

func every(fsm.Grant) bool { return true }

func (s *Scheduler) giveBack(grants []fsm.Grant) {
	for part := range slices.Chunk(grants, maxClaims) {
		for _, g := range part {
			s.releasing[g.Claim.Attempt] = true
		}
		event := releaseEvent(s.cfg.Now(), false, part...)
		s.start(func() func() {
			s.propose(event, nil)
			return func() {
				for _, g := range part {
					delete(s.releasing, g.Claim.Attempt)
				}
			}
		})
	}
}

func releaseEvent(now time.Time, inDoubt bool, grants ...fsm.Grant) func() *pb.Event {
	return func() *pb.Event {
		released := &pb.ClaimsReleased{}
		for _, g := range grants {
			released.Claims = append(released.Claims, &pb.ClaimsReleased_Claim{
				Claim: g.Claim, MessageId: g.Record.MessageId, Recipients: g.Record.Recipients, InDoubt: inDoubt,
			})
		}
		return &pb.Event{Time: now.UnixNano(), Kind: &pb.Event_ClaimsReleased{ClaimsReleased: released}}
	}
}

// reconcile gives back the claims of this incarnation that nobody here knows:
// granted in a state that was installed as a whole. Twice unknown, because a
// claim is readable a moment before its grant is.
func (s *Scheduler) reconcile() {
	if !s.mayAct() {
		return
	}
	s.absorb(s.cfg.State.TakeChanges())
	known, before := s.knownAttempts(), s.unknown
	s.unknown = make(map[uint64]bool)
	var orphans []fsm.Grant
	for _, grant := range s.cfg.State.Claims(s.incarnation) {
		attempt := grant.Claim.Attempt
		switch {
		case known[attempt]:
		case before[attempt]:
			orphans = append(orphans, grant)
		default:
			s.unknown[attempt] = true
		}
	}
	if len(orphans) == 0 {
		return
	}
	s.log.Warn("released claims without an attempt", "claims", len(orphans))
	s.metrics.orphans.Add(float64(len(orphans)))
	s.giveBack(orphans)
}

func (s *Scheduler) knownAttempts() map[uint64]bool {
	known := maps.Clone(s.releasing)
	for _, q := range s.queues {
		for number := range q.claiming {
			known[number] = true // its grant may be on its way
		}
		for i := range q.lanes {
			for _, grant := range q.lanes[i].ready {
				known[grant.Claim.Attempt] = true
			}
		}
		for number := range q.running {
			known[number] = true
		}
	}
	return known
}
