package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) accountAddCommand() *cobra.Command {
	var flags newPasswordFlags
	cmd := &cobra.Command{
		Use:   "add NAME [--password-file FILE | --generate]",
		Short: "Add an account",
		Long: `Add an account. It asks for the password at the terminal, twice and unseen;
--password-file reads it from a file, --generate makes one and writes it to stdout,
once. It returns when every node knows the account, or warns that one is behind.

NAME is 1 to 128 letters, digits, ".", "_", "-", "+" or "@", so that it can be a
mail address; upper and lower case are the same. A password has 8 to 72 bytes.`,
		Example: `  holdfast account add app@example.com
  holdfast account add crm --password-file /etc/holdfast/crm.password
  umask 077; holdfast account add printer --generate > printer.password`,
		Args: oneArgument("account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := a.newPassword(cmd.Context(), flags)
			if err != nil {
				return err
			}
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewAccessServiceClient(conn).CreateAccount(ctx, &pb.CreateAccountRequest{Name: args[0], Password: password})
				if err != nil {
					return err
				}
				a.warnUnconfirmed(r.Unconfirmed)
				return a.tellPassword(r.Account.Name, "added", password, flags)
			})
		},
	}
	flags.add(cmd)
	return cmd
}
