// Package audit tells whether a cluster has kept its promises after a run that
// did it harm:
//
//  1. It waits until the queue is empty.
//  2. It compares three books: the clients' answers, the mail at the destination,
//     and the cluster's own log.
//  3. It compares the states of the nodes by their digests.
//  4. The journal has every figure and every violation, and its verdict.
package audit
