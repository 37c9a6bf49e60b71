package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	pb "holdfast/proto/holdfast/v1"
)

type accountJSON struct {
	Name      string  `json:"name"`
	CreatedAt *string `json:"createdAt"`
	CreatedBy string  `json:"createdBy"`
	ChangedAt *string `json:"changedAt"`
	ChangedBy string  `json:"changedBy"`
}

func (a *app) accountCommand() *cobra.Command {
	account := group("account", "Accounts for SMTP AUTH: who may authenticate over SMTP",
		`An account lets a program or a person authenticate over SMTP with AUTH PLAIN or
AUTH LOGIN, on every node. A node offers AUTH after STARTTLS, once there is an
account. The messages that come in are marked with the account's name, which
"holdfast log show" has.

The cluster keeps a bcrypt hash of the password; nobody can read the password back.`)
	account.AddCommand(a.accountAddCommand(), a.accountListCommand(), a.accountPasswdCommand(), a.accountRemoveCommand())
	return account
}

func toAccountJSON(r *pb.Account) accountJSON {
	return accountJSON{
		Name: r.Name, CreatedAt: timeJSON(r.CreatedAt), CreatedBy: r.CreatedBy,
		ChangedAt: timeJSON(r.ChangedAt), ChangedBy: r.ChangedBy,
	}
}

// newPasswordFlags say where a new password comes from.
type newPasswordFlags struct {
	file     string
	generate bool
}

func (f *newPasswordFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "password-file", "", "file with the password in its first line, - is stdin")
	cmd.Flags().BoolVar(&f.generate, "generate", false, "make a password of 130 random bits and write it to stdout, once")
}

// newPassword is a password that is to be set: made here, from a file, or typed
// twice at a terminal that doesn't show it.
func (a *app) newPassword(ctx context.Context, f newPasswordFlags) (string, error) {
	switch {
	case f.generate && f.file != "":
		return "", usage("--generate makes a password and --password-file has one: give one of them")
	case f.generate:
		return strings.ToLower(rand.Text()), nil
	case f.file != "":
		return a.readPassword("--password-file", f.file)
	case !a.terminal():
		return "", usage("there is no terminal to ask for the password: --password-file FILE has it (- is stdin), or --generate makes one")
	}
	first, err := a.askUnseen(ctx, "Password: ")
	if err != nil {
		return "", err
	}
	again, err := a.askUnseen(ctx, "Once more: ")
	if err != nil {
		return "", err
	}
	if first != again {
		return "", usage("the two passwords differ, nothing was changed")
	}
	return first, nil
}

func (a *app) askUnseen(ctx context.Context, question string) (string, error) {
	fmt.Fprint(a.err, question)
	answer, err := a.unseen(ctx)
	fmt.Fprintln(a.err)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return answer, nil
}

// tellPassword says what was done, and a password that was made here.
func (a *app) tellPassword(name, what, password string, f newPasswordFlags) error {
	if !f.generate {
		_, err := fmt.Fprintf(a.out, "account %s %s\n", name, what)
		return err
	}
	fmt.Fprintf(a.err, "account %s %s. Its password follows and is shown only now:\n", name, what)
	_, err := fmt.Fprintln(a.out, password)
	return err
}
