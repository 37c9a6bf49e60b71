package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"strings"
	"time"

	pb "holdfast/proto/holdfast/v1"
)

// secretPrefix begins every token, so that scanners for leaked secrets know them.
const secretPrefix = "hft_"

// secretBytes is the length of a token's random part.
const secretBytes = 32

// letters of a token: none that a double click doesn't select.
var letters = base32.StdEncoding.WithPadding(base32.NoPadding)

// newSecret makes a token: its id, what its holder keeps, and the hash that the
// cluster keeps. SHA-256 is right for a secret of 256 random bits: slow and salted
// hashes are against guessing, and there are 2^256 guesses.
func newSecret() (id, secret string, hash []byte) {
	random := make([]byte, secretBytes)
	rand.Read(random) // never fails, or ends the process
	id = strings.ToLower(rand.Text()[:10])
	secret = secretPrefix + id + "_" + strings.ToLower(letters.EncodeToString(random))
	return id, secret, secretHash(secret)
}

func secretHash(secret string) []byte {
	hash := sha256.Sum256([]byte(secret))
	return hash[:]
}

// tokenOf finds the token that a secret is of. The id in it, which is no secret,
// finds the record; the comparison takes as long for a token that isn't there.
func (a *Access) tokenOf(secret string) (*pb.TokenRecord, bool) {
	rest, _ := strings.CutPrefix(secret, secretPrefix)
	id, _, _ := strings.Cut(rest, "_")
	record, found := a.state.Token(id)
	kept := record.GetConfig().GetSecretSha256()
	if !found {
		kept = make([]byte, sha256.Size)
	}
	same := subtle.ConstantTimeCompare(kept, secretHash(secret)) == 1
	return record, found && same
}

// expired is judged where a token is used, by the cluster's time: the state
// machine knows no time of its own.
func expired(record *pb.TokenRecord, now time.Time) bool {
	at := record.Config.ExpiresAt
	return at != 0 && now.UnixNano() >= at
}
