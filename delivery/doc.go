// Package delivery carries queued mail to its destinations.
//
// The way of a message through it:
//
//  1. The state's feed wakes the scheduler (scheduler.go), whose one goroutine
//     owns everything that is known of the destinations (queue.go).
//  2. Where this node owns the destination and a slot is free, due recipients
//     are claimed, many in one event (claim.go). The claims that hold come back
//     through the feed, never from the proposal.
//  3. Each claim is carried out by a goroutine of its own over a kept or a new
//     connection (attempt.go, hosts.go, idle.go).
//  4. The scheduler judges what the attempt says of the host (health.go): an
//     outage is one event, and from then on one probe after another.
//  5. The outcome becomes events (outcome.go), with a report where one is due
//     (report.go), and is proposed until it is known to be in the log.
//  6. What outlives its retention is returned without an attempt (expiry.go), and
//     so is what an operator has ordered to be returned (returning.go).
//  7. In a quarter of the slots destinations are asked about recipients, without a
//     message (callout.go, callout_run.go); what they say goes into the state and the
//     same breaker (callout_verdict.go).
//
// Without a lease nothing is claimed, and connections that haven't sent their
// last byte are reset: another node may be about to deliver the same mail.
package delivery
