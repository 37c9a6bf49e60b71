// Package password keeps what people think up:
//
//  1. Prepare brings a password into the one form that it is kept and compared in.
//  2. Hash makes what the cluster keeps of it.
//  3. Matches tells whether a password is the one that a hash was made of, in the
//     same time for a hash that isn't there.
package password

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/text/secure/precis"
)

// Cost is bcrypt's: 2^10 rounds, some 50 ms of one processor for each guess. It is
// what OWASP has as the least; 11 would double what a client pays that connects
// anew for each message.
//
// Hashes carry theirs, so those that are kept could be told after it is raised; but
// the time of an answer tells an account whose hash has another cost than nobodys
// from one that isn't there. Whoever raises it has each account's hash made anew
// first, from the password of its next authentication.
const Cost = bcrypt.DefaultCost

// Limits of a password in octets. bcrypt reads 72 and no more: what is longer is
// refused when it is set, and never right, instead of being cut.
const (
	Min = 8
	Max = 72
)

// ErrPassword is wrapped where a password can't be one.
var ErrPassword = errors.New("not a password")

// Prepare is the form in which a password is kept and compared (RFC 8265 section
// 4.2, as RFC 4616 section 2 asks for with its predecessor): what looks alike but
// is typed differently on two machines is the same.
func Prepare(given string) (string, error) {
	prepared, err := precis.OpaqueString.String(given)
	switch {
	case err != nil || !utf8.ValidString(given):
		return "", fmt.Errorf("%w: it is empty, has control characters or isn't UTF-8", ErrPassword)
	case len(prepared) < Min || len(prepared) > Max:
		return "", fmt.Errorf("%w: it has %d bytes, want %d to %d", ErrPassword, len(prepared), Min, Max)
	}
	return prepared, nil
}

// Hash is what is kept of a prepared password, with a salt of its own.
func Hash(prepared string) (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(prepared), Cost)
	return string(hash), err
}

// nobodys is a hash of a password that nobody has.
const nobodys = "$2a$10$uLv/Aq/hTzIp1tO2KUdE4uJiI5gKZ2JkgucxDQDQRnr4DgZZpnlRS"

// Matches reports whether a hash was made of a password as it was given. With ""
// for a hash, or a password that can't be one, it takes as long and says no.
func Matches(hash, given string) bool {
	prepared, err := Prepare(given)
	possible := err == nil && hash != ""
	if hash == "" {
		hash = nobodys
	}
	if err != nil {
		prepared = "impossible"
	}
	return bcrypt.CompareHashAndPassword([]byte(hash), []byte(prepared)) == nil && possible
}
