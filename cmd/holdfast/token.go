package main

import (
	"strings"

	"github.com/spf13/cobra"

	pb "holdfast/proto/holdfast/v1"
)

type tokenJSON struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Role      string   `json:"role"`
	Domains   []string `json:"domains"`
	CreatedBy string   `json:"createdBy"`
	CreatedAt *string  `json:"createdAt"`
	ExpiresAt *string  `json:"expiresAt"`
	Expired   bool     `json:"expired"`
}

func (a *app) tokenCommand() *cobra.Command {
	token := group("token", "Tokens: who may administer, and what of it",
		`A token stands for a caller in a role: viewer reads, operator also reads mail and
acts on it, admin also configures. It can expire, and one that is limited to
domains sees and acts on their recipients only: a customer's own window.

Whoever has a token uses it with HOLDFAST_TOKEN or --token-file. It is sent over
TLS, over a socket and on loopback, and nowhere else.`)
	token.AddCommand(a.tokenCreateCommand(), a.tokenListCommand(), a.tokenRevokeCommand())
	return token
}

func toTokenJSON(t *pb.Token) tokenJSON {
	return tokenJSON{
		ID: t.Id, Name: t.Name, Role: roleName(t.Role), Domains: append([]string{}, t.Domains...),
		CreatedBy: t.CreatedBy, CreatedAt: timeJSON(t.CreatedAt), ExpiresAt: timeJSON(t.ExpiresAt), Expired: t.Expired,
	}
}

// roleName is a role in the contract's word.
func roleName(role pb.Role) string {
	return strings.ToLower(strings.TrimPrefix(role.String(), "ROLE_"))
}

// roleOf is the reverse of roleName.
func roleOf(name string) (pb.Role, error) {
	for _, role := range []pb.Role{pb.Role_ROLE_VIEWER, pb.Role_ROLE_OPERATOR, pb.Role_ROLE_ADMIN} {
		if roleName(role) == name {
			return role, nil
		}
	}
	return 0, usage("--role %q: want viewer, operator or admin", name)
}

func expiryWord(t *pb.Token, when func() string) string {
	switch {
	case t.ExpiresAt == nil:
		return "never"
	case t.Expired:
		return "expired " + when()
	}
	return when()
}

func domainsWord(domains []string) string {
	if len(domains) == 0 {
		return "all"
	}
	return strings.Join(domains, ",")
}
