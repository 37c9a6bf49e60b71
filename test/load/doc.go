// Package load sends mail the way many clients at once do, and remembers what
// became of every message it sent:
//
//  1. Each of a fixed number of sessions connects to its address, sends
//     messages one after the other, and connects again when the connection is
//     lost, refused, or has carried its share.
//  2. Each message has an id of its own, in its Subject, in a header and in its
//     envelope sender, and a checksum of its body, so that whoever receives it
//     can tell which one it is and that it is whole.
//  3. The final answer to each id is kept and written to a file: accepted with a
//     queue id, deferred, refused, or unknown where the connection was lost.
//  4. A report counts answers and measures rate, latency of acceptance (from the
//     final dot to its reply) and the longest time without any acceptance.
package load
