// Package model explores, exhaustively, the rules of ownership, leases and
// claims: every order in which the steps of a small cluster can happen. The log
// is folded by the real apply functions of package fsm; what happens around the
// log (pings, leases, proposals, attempts, the front door's answer) is modelled.
//
// One exploration goes through it in these steps:
//
//  1. A world (world.go) is everything that a schedule has led to: the committed
//     log, what the leader has not committed yet, two nodes, one message.
//  2. The steps that may come next (steps_*.go) are tried one by one. An entry
//     that is committed goes through a real fsm.State, once for each distinct
//     log (log.go, event.go).
//  3. Each step is checked against the promises of the design (check.go).
//  4. The worlds are visited breadth first, each once (explore.go), so the first
//     violation has the shortest story; at the end it is asked of every world
//     whether the message can still come to its end without another fault.
//  5. A Rule can be taken out (rules.go). Then the exploration must find a
//     violation, which is told in words (story.go, report.go).
package model
