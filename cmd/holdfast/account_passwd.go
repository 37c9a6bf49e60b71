package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) accountPasswdCommand() *cobra.Command {
	var flags newPasswordFlags
	cmd := &cobra.Command{
		Use:   "passwd NAME [--password-file FILE | --generate]",
		Short: "Give an account another password",
		Long: `Give an account another password, which is asked for or comes from where "account
add" has it from. It returns when every node takes the new one and none the old one,
or warns that one is behind; a session that was begun with the old one ends with its
next message.`,
		Example: `  holdfast account passwd app@example.com
  umask 077; holdfast account passwd printer --generate > printer.password`,
		Args: oneArgument("account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := a.newPassword(cmd.Context(), flags)
			if err != nil {
				return err
			}
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewAccessServiceClient(conn).ChangePassword(ctx, &pb.ChangePasswordRequest{Name: args[0], Password: password})
				if err != nil {
					return err
				}
				a.warnUnconfirmed(r.Unconfirmed)
				return a.tellPassword(r.Account.Name, "has another password", password, flags)
			})
		},
	}
	flags.add(cmd)
	return cmd
}
