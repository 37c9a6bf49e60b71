// Package relay is the vocabulary that every part of Holdfast shares: ids,
// addresses, what a destination, a domain and a retry policy are, and how an
// SMTP failure is classed. It is pure: no I/O, no clock, and it imports nothing
// else of Holdfast.
package relay
