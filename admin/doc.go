// Package admin is the administration of a cluster over gRPC.
//
// A call goes like this:
//
//  0. An interceptor finds out who calls and asks one table whether they may
//     (access.go, permission.go). Whom a caller may see goes with the context, and
//     each reading of the state keeps to it (limit.go).
//  1. The request is checked; what is wrong with it is named in the answer.
//  2. A reading call takes a view of the node's own state, at one index, and
//     answers from it, with or without a quorum. Without one it says so.
//  3. A changing call proposes one event through Cluster, which brings it into
//     the log and knows what applying it came to.
//  4. A change of configuration then waits until every leased node has applied
//     it, so that the next RCPT on any node is answered accordingly.
//  5. What went wrong becomes a gRPC status, in errors.go alone.
package admin
