// Package pki is who is at the other end of a connection: the cluster's own
// certificate authority, and the certificates that carry an identity.
//
//  1. NewCA makes the authority, once for a cluster; ParseCA reads it again.
//  2. Issue signs a certificate for an Identity: a node, or a person with a
//     role. It stands in the certificate as its one URI of the scheme
//     holdfast, holdfast://node/a or holdfast://operator/alice; the hosts of a
//     node are DNS names and IP addresses beside it.
//  3. A handshake verifies the chain up to the authority. FromState, and
//     FromPeer in a gRPC call, then read the identity, from chains that were
//     verified and from nothing else.
//  4. Credentials are a running node's files. They do its handshakes, read the
//     files again, and close connections that a handshake would refuse now.
//
// Keys are ECDSA P-256 rather than Ed25519: gRPC outside of Go (Python, C++,
// Node) and browsers speak TLS with BoringSSL, which by default doesn't take
// Ed25519 certificates.
package pki
