package model

import (
	"fmt"
	"slices"

	pb "holdfast/proto/holdfast/v1"
)

// story tells how a world was reached, and the step after it where there is one.
func (x *explorer) story(at int32, last int) ([]string, error) {
	var ordinals []int
	for id := at; x.worlds[id].from >= 0; id = x.worlds[id].from {
		ordinals = append(ordinals, int(x.worlds[id].ordinal))
	}
	slices.Reverse(ordinals)
	if last >= 0 {
		ordinals = append(ordinals, last)
	}
	w := x.begin()
	var lines []string
	for _, wanted := range ordinals {
		before, ordinal := w, 0
		var taken step
		err := x.successors(&before, func(s step, next world) {
			if ordinal == wanted {
				w, taken = next, s
			}
			ordinal++
		})
		if err != nil {
			return nil, err
		}
		lines = append(lines, x.tell(taken, &before, &w))
	}
	return lines, nil
}

func (m *model) tell(s step, before, after *world) string {
	name := ""
	if s.x <= nobody {
		name = nodeNames[s.x]
	}
	line := m.words(s, name, before, after)
	if s.x < nobody && after.nodes[s.x].applied > before.nodes[s.x].applied {
		line = fmt.Sprintf("(%s has applied the log up to %d.) ", name, after.nodes[s.x].applied) + line
	}
	if after.log != before.log {
		end := m.logs.end(after.log)
		line += fmt.Sprintf(" Committed at %d: %s: %s.", end.index, end.entry, codeWords(end.result))
	}
	return line
}

func (m *model) words(s step, name string, before, after *world) string {
	switch s.op {
	case opTick:
		if s.x != nobody {
			return fmt.Sprintf("The time of a lease passes, but %s's clock is slow.", name)
		}
		return "The time of a lease passes."
	case opSend:
		return fmt.Sprintf("%s sends a ping.", name)
	case opHear:
		return fmt.Sprintf("The ping of %s arrives at %s.", name, nodeNames[s.y])
	case opAnswer:
		if s.y == 0 {
			return fmt.Sprintf("%s grants %s no lease.", nodeNames[before.leader], name)
		}
		return fmt.Sprintf("%s, having proved that it leads, grants %s a lease; the answer is on its way.", nodeNames[before.leader], name)
	case opReceive:
		return fmt.Sprintf("The answer reaches %s, which has a lease for %d tick.", name, after.nodes[s.x].lease)
	case opRound:
		if s.y == s.x && before.deposed == s.x {
			return fmt.Sprintf("%s, which believes to lead, grants itself a lease.", name)
		}
		return fmt.Sprintf("%s pings %s, which proves that it leads and grants a lease.", name, nodeNames[s.y])
	case opLearnDeposed:
		return fmt.Sprintf("%s learns that it doesn't lead any more.", name)
	case opDecide:
		return fmt.Sprintf("%s has heard nothing of %s and decides NodeDown of %s%d, in term %d.",
			nodeNames[before.leader], name, name, after.verdict.inc, before.term)
	case opJudge:
		return fmt.Sprintf("%s proposes its NodeDown, and %s takes it in term %d.", name, nodeNames[before.leader], before.term)
	case opElect:
		return fmt.Sprintf("%s is elected in term %d; of what was not committed it has %d entries.", name, after.term, s.y)
	case opReady:
		return fmt.Sprintf("%s is past its barrier.", name)
	case opCommit:
		return fmt.Sprintf("A majority has the next entry of %s.", name)
	case opPause:
		return fmt.Sprintf("%s stands still.", name)
	case opRestart:
		if after.nodes[s.x].phase == up {
			return fmt.Sprintf("%s is killed and starts again; its disk has the log up to %d.", name, s.y)
		}
		return fmt.Sprintf("%s is killed and starts again.", name)
	case opResume:
		return fmt.Sprintf("%s goes on.", name)
	case opEnd:
		return fmt.Sprintf("%s sees that its incarnation has ended.%s", name, clientWords(before, after))
	case opComeUp:
		return fmt.Sprintf("%s has caught up and proposes NodeUp of %s%d.", name, name, after.nodes[s.x].last)
	case opSubmit:
		return fmt.Sprintf("%s sends %s to %s.", name, before.nodes[s.x].open[s.y].words(s.x), nodeNames[before.leader])
	case opLearn:
		p := before.nodes[s.x].open[s.y]
		return fmt.Sprintf("%s learns what became of %s: %s.%s", name, p.words(s.x),
			codeWords(m.logs.at(before.log, p.at).result), clientWords(before, after))
	case opArrive:
		return fmt.Sprintf("A client gives %s the message.", name)
	case opEarly, opDeadline:
		return clientWords(before, after)[1:]
	}
	return deliveryWords(s, name, before, after)
}

func deliveryWords(s step, name string, before, after *world) string {
	claim := after.attempts[min(s.y, maxAttempts-1)].claim
	if claim.inc == 0 { // it was the last that is known of the attempt
		claim = before.attempts[min(s.y, maxAttempts-1)].claim
	}
	switch s.op {
	case opClaim:
		return fmt.Sprintf("%s, the owner, claims the recipient.", name)
	case opStart:
		return fmt.Sprintf("%s starts the attempt of claim %s.", name, claim)
	case opDot:
		return fmt.Sprintf("%s sends the final dot in the attempt of claim %s.", name, claim)
	case opGiveUp:
		return fmt.Sprintf("%s resets the connection of claim %s before the final dot.", name, claim)
	case opTake:
		return fmt.Sprintf("The remote takes the message from the attempt of claim %s.", claim)
	case opRefuse:
		return fmt.Sprintf("The remote answers the attempt of claim %s with 451.", claim)
	case opLoseTaken:
		return fmt.Sprintf("The remote takes the message from claim %s, but the connection breaks before its reply.", claim)
	case opLose:
		return fmt.Sprintf("The connection of claim %s breaks after the final dot; the remote doesn't have the message.", claim)
	case opReply:
		return fmt.Sprintf("%s reads the remote's reply to the attempt of claim %s.", name, claim)
	}
	return fmt.Sprintf("step %d", s.op)
}

func clientWords(before, after *world) string {
	switch {
	case before.client == after.client:
		return ""
	case after.client == got250:
		return " The client is told 250."
	case after.client == got451 && before.client == waiting:
		return " The client is told 451."
	}
	return ""
}

// String is the claim's incarnation and number, as in A1/1.
func (r ref) String() string { return fmt.Sprintf("%s%d/%d", nodeNames[r.node], r.inc, r.number) }

var kindNames = [...]string{
	accepted: "MessageAccepted", aborted: "AcceptanceAborted", claimed: "AttemptStarted", delivered: "Delivered",
	failed: "AttemptFailed", released: "ClaimsReleased", doubted: "ClaimsReleased (in doubt)",
	cameUp: "NodeUp", wentDown: "NodeDown",
}

func (e entry) String() string {
	switch {
	case e.kind == cameUp || e.kind == wentDown:
		return fmt.Sprintf("%s of %s%d", kindNames[e.kind], nodeNames[e.node], e.inc)
	case e.kind == claimed || isOutcome(e.kind):
		return fmt.Sprintf("%s for claim %s, from %s%d", kindNames[e.kind], e.claim, nodeNames[e.node], e.inc)
	}
	return fmt.Sprintf("%s, from %s%d", kindNames[e.kind], nodeNames[e.node], e.inc)
}

func (p proposal) words(x uint8) string {
	if p.claim.inc != 0 {
		return fmt.Sprintf("%s for claim %s", kindNames[p.kind], p.claim)
	}
	if p.kind == cameUp {
		return fmt.Sprintf("NodeUp of %s%d", nodeNames[x], p.inc)
	}
	return kindNames[p.kind]
}

func codeWords(code pb.EventResult_Code) string {
	switch code {
	case pb.EventResult_CODE_OK:
		return "it takes effect"
	case pb.EventResult_CODE_STALE:
		return "no effect any more"
	case pb.EventResult_CODE_NOT_ACTIVE:
		return "refused, the incarnation is gone"
	case pb.EventResult_CODE_ABORTED:
		return "refused, the abort came first"
	}
	return "refused"
}
