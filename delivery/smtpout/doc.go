// Package smtpout is Holdfast's SMTP client: it carries one message after the
// other to a next hop over a connection that its owner keeps.
//
// One delivery goes like this:
//
//  1. Dialer.Connect looks the host up, tries its addresses in order, reads the
//     greeting, says EHLO (HELO to a server that knows no EHLO), starts TLS as
//     far as the destination asks for it, and says EHLO again.
//  2. Conn.Send writes MAIL, every RCPT and DATA in one flight where the peer
//     offers PIPELINING, and the content after them in blocks. Where the peer
//     offers CHUNKING a short message goes out whole with its envelope. Where it
//     takes fewer recipients at a time, the message goes again for the others.
//  3. The last octets (the final dot, or the end of the chunk marked LAST) are
//     written only after the body has reported its end without an error, so a
//     body that fails its checksum there never becomes a message.
//  4. Each recipient gets an Outcome: the peer's reply, or a *relay.Failure.
//  5. The owner keeps the connection while Reusable, asks Alive before it uses
//     an idle one, and ends it with Close or, on losing its lease, with
//     AbortUnlessCommitted.
//
// A protocol error (a malformed reply, or one that makes no sense at its place)
// is a failure of the host with relay.CauseClosed, since the connection is
// closed on it. After the content it leaves the message in doubt.
package smtpout
