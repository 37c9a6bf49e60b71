// Package smtpd is the front door: an SMTP server that makes the cluster
// responsible for a message before it says 250.
//
// One message takes these steps:
//
//  1. server.go takes the connection, within the limits in total and per client;
//     where a proxy made it, proxy.go reads who the client is.
//  2. conn.go reads commands and writes replies; replies are flushed only when
//     a read must wait (RFC 2920). After any read error nothing is read again,
//     so that the rest of a body is never taken for commands.
//  3. session.go and transaction.go keep the order of commands; command.go,
//     dsn.go and address.go parse them; policy.go answers RCPT from the
//     replicated state. auth.go lets clients authenticate, guesses.go bounds what
//     those cost that try passwords.
//  4. data.go finds the end of the content (DATA, BDAT), body.go checks it and
//     sends a long one ahead in pieces while the rest still arrives.
//  5. accept.go proposes MessageAccepted and gives the final reply. Where the
//     outcome isn't known in time it answers 451 and cleanup.go takes the
//     message back.
//
// The package knows no raft: it proposes events through a Proposer, reads
// domains from a Directory and asks a Gate whether it may answer for the
// cluster now.
//
// Decisions where RFC 5321 leaves room: a command that ends in a bare LF is
// refused with 500 and the connection closed; a text line may have any length
// (section 4.5.3.1 wants no limits where they can be avoided), since content is
// streamed and never altered; an unquoted local part may have dots anywhere,
// because such mailboxes exist; and RCPT TO:<Postmaster> without a domain
// (section 4.5.1) goes to the cluster's postmaster, or is refused with 550 5.1.1 where
// none is set, for a relay has no mailbox of its own.
package smtpd
