// Package cluster makes one replicated log out of the nodes: raft with its log
// stores and transport, membership, leases, and the way of an event into the
// log.
//
// One proposal goes like this:
//
//  1. Propose hands the event to the session of this node's incarnation, in
//     the lane for control events or in the one for bodies.
//  2. The lane packs whatever waits into one raft entry, gives each event its
//     sequence, and hands the entry to the leader: raft here, or over a stream
//     to the leader's PeerService.
//  3. The leader's state machine applies the entry; its results come back.
//  4. Where the outcome is unknown (the leader died, the stream broke), the
//     same events with the same sequences go into a new entry, until their
//     outcome is known or the incarnation has ended. The state machine answers
//     a repeated sequence from what it kept.
//
// Connections between nodes are mutual TLS where Config.TLS is set, and whoever
// claims a name there has the certificate for it (guard.go, stream.go).
//
// Beside it, a node pings the leader for its lease, and the leader declares
// nodes down whose pings stopped.
package cluster
