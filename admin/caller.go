package admin

import (
	"context"
	"slices"
	"strings"

	pb "holdfast/proto/holdfast/v1"
)

// caller is who makes a call, and what that allows.
type caller struct {
	name string // for people and the log
	role pb.Role
	// token is the id of the token that the caller showed, "" where it was none.
	token string
	// domains are those whose recipients the caller sees and acts on, sorted; nil
	// is all.
	domains []string
}

// nobody is the caller where no interceptor has said who calls: it sees nothing.
var nobody = caller{name: "unknown", domains: []string{}}

type callerKey struct{}

func withCaller(ctx context.Context, c caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

func callerOf(ctx context.Context) caller {
	if c, ok := ctx.Value(callerKey{}).(caller); ok {
		return c
	}
	return nobody
}

// operatorOf names who makes a call, for the log.
func operatorOf(ctx context.Context) string { return callerOf(ctx).name }

// limited callers see the recipients of some domains only. What belongs to others
// doesn't exist for them: answers about it are those about what there never was.
func (c caller) limited() bool { return c.domains != nil }

// sees reports whether recipients of a domain exist for the caller.
func (c caller) sees(domain string) bool {
	if c.domains == nil {
		return true
	}
	_, found := slices.BinarySearch(c.domains, domain)
	return found
}

// listing is a part of what a page token belongs to.
func (c caller) listing() string {
	if c.domains == nil {
		return "all"
	}
	return "of " + strings.Join(c.domains, ",")
}

// roleWord is a role in the contract's word.
func roleWord(role pb.Role) string {
	return strings.ToLower(strings.TrimPrefix(role.String(), "ROLE_"))
}
