// Package verify decides which recipients of a configured domain are taken (R10 to
// R14), the same at every node:
//
//  1. A domain takes all recipients, or those that an operator listed, or besides
//     these those that its destination takes.
//  2. What the destination said of a recipient is in the replicated state for some
//     days or hours, and answers without it: also while the destination is down.
//  3. Of others the destination is asked while the client waits for its answer to
//     RCPT: by the node that owns the destination, once for all who ask (a call-out).
//  4. Where it can't say, the client is told to come again. What it says meanwhile is
//     kept for then.
package verify
