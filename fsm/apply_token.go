package fsm

import (
	"crypto/sha256"
	"slices"
	"strings"

	pb "holdfast/proto/holdfast/v1"
)

// Limits of the tokens, which are all kept in memory.
const (
	maxTokens       = 10_000
	MaxTokenDomains = 100
	maxTokenName    = 63
	maxTokenMaker   = 1 << 10
)

// tokenSet adds a token. None is ever changed, so that nobody's access grows
// behind the back of who looked at it last.
func (t *tx) tokenSet(e *pb.TokenSet) *pb.EventResult {
	config := e.Token
	if refusal := t.checkToken(config); refusal != nil {
		return refusal
	}
	for _, other := range list(t.tables.tokens) {
		if other.Config.Name == config.Name {
			return refused(pb.EventResult_CODE_IN_USE,
				"a token named %s exists: `holdfast token revoke %s` ends it, or choose another name", config.Name, config.Name)
		}
	}
	if t.tables.tokens.Len() >= maxTokens {
		return refused(pb.EventResult_CODE_IN_USE, "there are %d tokens, the most there can be: revoke some first", maxTokens)
	}
	record := &pb.TokenRecord{Config: config, CreatedAt: t.event.Time}
	t.put(keyOfName(famTokens, config.Id), nil, encode(record))
	t.tables.tokens, _, _ = t.tables.tokens.Insert([]byte(config.Id), record)
	return resultOK
}

func (t *tx) checkToken(config *pb.TokenConfig) *pb.EventResult {
	switch {
	case !isTokenID(config.GetId()):
		return invalid("a token's id is 1 to %d letters, digits or hyphens", maxTokenName)
	case !IsTokenName(config.Name):
		return invalid("token name %q: want 1 to %d letters, digits, \".\", \"_\", \"-\" or \"@\"", config.Name, maxTokenName)
	case config.Role < pb.Role_ROLE_VIEWER || config.Role > pb.Role_ROLE_ADMIN:
		return invalid("token %s has no role: viewer, operator or admin", config.Name)
	case len(config.SecretSha256) != sha256.Size:
		return invalid("token %s has no secret", config.Name)
	case len(config.Domains) > 0 && config.Role == pb.Role_ROLE_ADMIN:
		return invalid("token %s: what an admin may do has no limit to domains; viewer and operator can have one", config.Name)
	case len(config.Domains) > MaxTokenDomains:
		return invalid("token %s has %d domains, %d at most", config.Name, len(config.Domains), MaxTokenDomains)
	case len(config.CreatedBy) > maxTokenMaker:
		return invalid("token %s: who made it is longer than %d bytes", config.Name, maxTokenMaker)
	}
	if _, exists := lookup(t.tables.tokens, config.Id); exists {
		return invalid("a token with the id %s exists", config.Id)
	}
	for i, domain := range config.Domains {
		if i > 0 && domain <= config.Domains[i-1] {
			return invalid("token %s: its domains aren't sorted, or one is there twice", config.Name)
		}
		if _, ok := lookup(t.tables.domains, domain); !ok {
			return refused(pb.EventResult_CODE_NOT_FOUND, "no domain %s: `holdfast domain list` shows all", domain)
		}
	}
	return nil
}

func (t *tx) tokenRevoked(e *pb.TokenRevoked) *pb.EventResult {
	old, ok := lookup(t.tables.tokens, e.Id)
	if !ok {
		return refused(pb.EventResult_CODE_NOT_FOUND, "no token %q", e.Id)
	}
	t.remove(keyOfName(famTokens, e.Id), encode(old))
	t.tables.tokens, _, _ = t.tables.tokens.Delete([]byte(e.Id))
	return resultOK
}

// tokenFor is a token that is limited to a domain, "" where there is none. A
// domain stays while it is: whoever has the name next must not be seen by who had
// it before.
func (t *tables) tokenFor(domain string) string {
	for _, token := range list(t.tokens) {
		if _, found := slices.BinarySearch(token.Config.Domains, domain); found {
			return token.Config.Name
		}
	}
	return ""
}

// TokenFor is a token that keeps a domain from being removed, "" where there is
// none.
func (v *View) TokenFor(domain string) string { return v.tables.tokenFor(domain) }

func isTokenID(id string) bool {
	return id != "" && len(id) <= maxTokenName && !strings.ContainsFunc(id, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// IsTokenName reports whether a token can have a name: one word, that stands in
// the log as it is.
func IsTokenName(name string) bool {
	return name != "" && len(name) <= maxTokenName && !strings.ContainsFunc(name, func(r rune) bool {
		return !strings.ContainsRune("._-@", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// Token finds a token by its id, as this node has it now.
func (s *State) Token(id string) (*pb.TokenRecord, bool) { return lookup(s.published().tokens, id) }

// Tokens lists the tokens, sorted by name.
func (v *View) Tokens() []*pb.TokenRecord {
	all := list(v.tables.tokens)
	slices.SortFunc(all, func(a, b *pb.TokenRecord) int { return strings.Compare(a.Config.Name, b.Config.Name) })
	return all
}
