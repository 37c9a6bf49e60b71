package model

// Rule is one rule of the protocol, which can be taken out of the model.
type Rule int

// The rules, and beside each what takes its place when it is taken out.
const (
	allRules Rule = iota
	ruleLeaseFromSending
	ruleVerifyLeader
	ruleMargin
	ruleBootTime
	ruleNewLeaderWaits
	ruleBarrier
	ruleTerm
	ruleNoGrantAfterDown
	ruleDotChecked
	ruleClaimChecked
	ruleFromApply
	ruleIncarnationInClaims
	ruleDeliveredCounts
	ruleDeliveredLate
	ruleStaleFailure
	ruleSessions
	ruleSameSequence
	ruleTombstone
	rule250AfterCommit
	ruleCatchUp
	ruleRevokeAtUp
	ruleAbortPursued
	ruleWithdrawn
)

// promise is what a violation breaks.
type promise string

const (
	p1 promise = "P1: the message is stuck"
	p2 promise = "P2: the answer to the client doesn't hold"
	p3 promise = "P3: a node acts that the cluster has declared down"
	p4 promise = "P4: two attempts overlap without an in-doubt mark between their claims"
	p5 promise = "P4: an attempt is made though the log has the delivery, or the claim is over"
)

type ruleText struct {
	rule    Rule
	name    string
	without string // what the model does in its place
	breaks  promise
	needs   faults // what must go wrong beside it
}

// Rules in the order of docs/model.md.
var ruleTexts = []ruleText{
	{ruleLeaseFromSending, "A lease lasts from the sending of the ping",
		"it lasts from the receipt of the answer", p3, faults{downs: 1}},
	{ruleVerifyLeader, "A ping is answered only after a proof of leadership",
		"whoever believes to lead answers, itself included", p3, faults{elections: 1, downs: 1}},
	{ruleMargin, "NodeDown waits for a margin beyond the lease",
		"it is proposed as soon as a lease without a ping has passed", p3, faults{downs: 1, drifts: 1}},
	{ruleBootTime, "A lease runs on while the node stands still (CLOCK_BOOTTIME)",
		"the clock of the lease stops with the node", p3, faults{downs: 1, pauses: 1}},
	{ruleNewLeaderWaits, "A new leader waits a full lease and margin before NodeDown",
		"it takes a node that it hasn't heard of for silent", p3, faults{elections: 1, downs: 1}},
	{ruleBarrier, "A new leader answers pings only past its barrier",
		"it answers from the state that it has", p3, faults{elections: 1, downs: 1}},
	{ruleTerm, "NodeDown counts only in the term in which it was decided",
		"it counts in any term", p3, faults{elections: 1, downs: 1}},
	{ruleNoGrantAfterDown, "Once the leader has decided NodeDown it grants that incarnation no lease",
		"it grants until NodeDown is applied", p3, faults{downs: 1}},
	{ruleDotChecked, "The final dot needs a lease and a live claim at that moment",
		"an attempt that has begun goes on to its end", p3, faults{downs: 1}},
	{ruleClaimChecked, "An attempt goes on only under a live claim",
		"the lease alone is asked, both at the start and before the final dot", p5, faults{downs: 1}},
	{ruleFromApply, "A node learns its claims from Apply",
		"it starts what the answer to its proposal grants, and nothing else", p5, faults{downs: 1}},
	{ruleIncarnationInClaims, "A claim belongs to an incarnation",
		"it belongs to a node, which counts anew in each incarnation", p4, faults{downs: 1, hiccups: 1}},
	{ruleDeliveredCounts, "Delivered ends a pending recipient, whoever sends it",
		"it counts for the current claim only", p5, faults{downs: 1}},
	{ruleDeliveredLate, "Delivered counts even from an incarnation that has ended",
		"it is refused, and the next incarnation has to say it again", p5, faults{downs: 1}},
	{ruleStaleFailure, "AttemptFailed counts for the current claim only",
		"it counts for whatever claim there is", p4, faults{downs: 1, hiccups: 1}},
	{ruleSessions, "The state keeps the results of open sequences, and answers a repeated event with them",
		"a repeated event is applied again", p2, faults{elections: 1, deadlines: 1}},
	{ruleSameSequence, "An event is proposed again under the same sequence",
		"it gets a new one each time", p2, faults{elections: 1, deadlines: 1}},
	{ruleTombstone, "An abort that comes before its acceptance leaves a tombstone",
		"it has no effect", p2, faults{elections: 1, deadlines: 1}},
	{rule250AfterCommit, "250 only once the acceptance is committed",
		"250 as soon as the leader has it", p2, faults{elections: 1, kills: 1}},
	{ruleCatchUp, "A node that starts does nothing before it has caught up, and then under a new incarnation",
		"it goes on from the state and the incarnation that it finds on its disk", p4, faults{kills: 1}},
	{ruleRevokeAtUp, "NodeUp revokes the claims of the incarnation that it replaces",
		"they stay", p1, faults{kills: 1}},
	{ruleAbortPursued, "The abort of an incarnation that has ended is proposed by the next one",
		"it goes with its incarnation", p2, faults{downs: 1, deadlines: 1}},
	{ruleWithdrawn, "An acceptance that was never sent is withdrawn at the deadline of its client",
		"it is sent all the same, under a sequence behind that of its abort", p2, faults{deadlines: 1}},
}
