package model

import (
	"fmt"
	"strings"
)

// scopes are what the exploration goes through: each leader, each combination
// of faults. Those that are long take minutes.
func scopes(long bool) []scope {
	combinations := []scope{
		{faults: faults{downs: 1, drifts: 1}},
		{faults: faults{downs: 1, pauses: 1}},
		{faults: faults{elections: 1, pauses: 1}},
		{faults: faults{elections: 1, kills: 1}},
		{faults: faults{elections: 1, deadlines: 1}},
		{faults: faults{downs: 1, deadlines: 1}},
		{faults: faults{kills: 1, deadlines: 1, hiccups: 1}},
		{faults: faults{pauses: 1, deadlines: 1, hiccups: 1}},
		// In single steps what the others take together.
		{faults: faults{deadlines: 1}, fine: true},
		{faults: faults{downs: 1}, fine: true, taken: true},
		{faults: faults{elections: 1, pauses: 1}, fine: true, taken: true},
	}
	if long {
		combinations = append(combinations,
			scope{faults: faults{downs: 1, kills: 1}},
			scope{faults: faults{downs: 1, hiccups: 1}, taken: true},
			scope{faults: faults{elections: 1, downs: 1}, taken: true},
		)
	}
	var all []scope
	for _, s := range combinations {
		for s.leader = range uint8(nobody) {
			all = append(all, s)
		}
	}
	return all
}

// counterexample looks for the violation that a rule prevents.
func counterexample(rule ruleText) (finding Finding, err error) {
	for leader := uint8(0); leader < nobody; leader++ {
		s := scope{leader: leader, acceptor: nodeA, faults: rule.needs, taken: rule.breaks != p2}
		finding, err = explore(s, rule.rule)
		if err != nil || finding.Broken != "" {
			return finding, err
		}
	}
	return finding, nil
}

func (f faults) String() string {
	var parts []string
	add := func(n uint8, what string) {
		if n > 0 {
			parts = append(parts, what)
		}
	}
	add(f.elections, "a leader change")
	add(f.pauses, "a pause")
	add(f.kills, "a kill")
	add(f.downs, "a NodeDown")
	add(f.deadlines, "the client's deadline")
	add(f.hiccups, "a refusal, a lost reply or a reset")
	add(f.drifts, "a slow clock")
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

const introduction = `# The model of ownership, leases and claims

Written by ` + "`go test ./test/model -run TestDocument -write`" + `; ` + "`go test ./test/model`" + ` explores it anew.

Two nodes, A and B, accept, lead and deliver; a third only votes. A client brings one message with one recipient. Every order of the steps is tried: pings, proofs of leadership, leases, the lease's end, proposals on their way, entries that the leader has and a majority hasn't (lost or kept by the next leader), commits, what each node has applied, attempts, the final dot, the remote's answer, the client's deadline. The log is folded by the real apply functions of package fsm, each distinct log by a state machine of its own; the rest is modelled.

Time is in ticks: a lease lasts one, the margin is one, and a clock may fall behind by one. Checked at every step: P2, P3 and P4 of DESIGN.md; and P1 from every world: without another fault, the message can still be delivered and recorded.

Steps that can't be told apart go together: a ping and its answer within a tick; the application of an entry with the first step that needs it; a commit with its proposal once no leader change is left; the answer to an outcome with its commit then. The rows marked "single" leave pings and answers in single steps. A node asks for a lease when it has something to do with one, and a fault strikes the leader or a node that the message is with: anywhere else it changes nothing but names.

The message comes in at A, which owns its destination. Both nodes have just come back, so ownership moves at once to the other node and back. A message that is held after two deaths has come to its end. In every row a node may take no step for as long as the others like, which is all that a pause is to the others, so the rows with a leader change and a NodeDown have the pause, too; the fault of that name also makes its leases and its watch stand still.

Not in the model: 5xx from state, bodies in pieces, slots, several destinations, the wait of 30 s before ownership returns, snapshots, and a stop between the check before the final dot and its writing to the socket: no program can rule that out, and P4 covers it. A node that is killed between its 451 and the commit of its abort leaves an acceptance that may be queued: to the client that is a connection lost before its reply (RFC 1047).

## All rules

| Faults that may come | Leads at first | Begins | Steps | Worlds | Logs | Promise broken |
|---|---|---|---|--:|--:|---|
`

// document writes docs/model.md from findings.
func document(explored []scope, full []Finding, by map[Rule]Finding) string {
	var b strings.Builder
	b.WriteString(introduction)
	total := 0
	for i, s := range explored {
		detail, begins := "together", "before the message"
		if s.fine {
			detail = "single"
		}
		if s.taken {
			begins = "after its 250"
		}
		broken := "none"
		if full[i].Broken != "" {
			broken = string(full[i].Broken)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %d | %d | %s |\n", s.faults, nodeNames[s.leader], begins,
			detail, full[i].States, full[i].Logs, broken)
		total += full[i].States
	}
	fmt.Fprintf(&b, "\n%d worlds in all.\n\n## Each rule taken out\n\nThe shortest story in the first scope that has one. A1 is A's first incarnation, A1/2 its second claim.\n", total)
	for i, text := range ruleTexts {
		finding := by[text.rule]
		fmt.Fprintf(&b, "\n### %d. %s\n\nWithout it: %s. At first %s.\n\n", i+1, text.name, text.without, finding.Scope)
		for n, line := range finding.Story {
			fmt.Fprintf(&b, "%d. %s\n", n+1, line)
		}
		fmt.Fprintf(&b, "\n**%s.**\n", finding.Broken)
	}
	return b.String()
}
