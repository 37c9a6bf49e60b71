// Package sink is a small SMTP server that takes mail and remembers it: the
// next hop in tests and benchmarks, and the demo mail server of `holdfast dev`.
//
// One connection goes like this:
//
//  1. The listener accepts, counts and numbers it.
//  2. Each step (the connection itself, a command, the end of a content) is put
//     to Config.Answer, which may choose the reply, hold it back until a
//     channel is closed, or hang up in its place. Without it the step is
//     answered as RFC 5321 says.
//  3. A transaction is recorded when it ends: after the content, by RSET, or
//     by the end of the connection. The record is there before the reply is
//     written, so a client that has its reply finds its message in Messages.
package sink
