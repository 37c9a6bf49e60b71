package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) tokenCreateCommand() *cobra.Command {
	var name, role string
	var domains []string
	var ttl durationFlag
	cmd := &cobra.Command{
		Use:   "create --name NAME --role ROLE [--domain DOMAIN]... [--ttl D]",
		Short: "Create a token",
		Long: `Create a token and write its secret to stdout, once: the cluster keeps only a hash
of it. What it is goes to stderr. It returns when every node knows the token, or
warns that one is behind: there the token is good later.

--domain limits a viewer or an operator to configured domains. Without --ttl the
token doesn't expire.`,
		Example: `  umask 077; holdfast token create --name grafana --role viewer --ttl 365d > grafana.token
  holdfast token create --name customer-7 --role operator --domain example.com --domain example.net
  HOLDFAST_TOKEN=$(cat customer-7.token) holdfast queue list`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" || role == "" {
				return usage("say who the token is for with --name, and what it may do with --role")
			}
			req := &pb.CreateTokenRequest{Name: name, Domains: domains}
			var err error
			if req.Role, err = roleOf(role); err != nil {
				return err
			}
			if cmd.Flags().Changed("ttl") {
				req.Ttl = durationpb.New(ttl.value)
			}
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewAccessServiceClient(conn).CreateToken(ctx, req)
				if err != nil {
					return err
				}
				a.warnUnconfirmed(r.Unconfirmed)
				t := r.Token
				fmt.Fprintf(a.err, "token %s created: role %s, domains %s, expires %s. Its secret follows and is shown only now:\n",
					t.Name, roleName(t.Role), domainsWord(t.Domains), expiryWord(t, func() string { return *timeJSON(t.ExpiresAt) }))
				_, err = fmt.Fprintln(a.out, r.Secret)
				return err
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&name, "name", "", "who it is for; stands in the log as who did what")
	flags.StringVar(&role, "role", "", "viewer, operator or admin")
	flags.StringArrayVar(&domains, "domain", nil, "limit it to this domain, several are allowed (default all)")
	flags.Var(&ttl, "ttl", "how long it is good (default for ever)")
	return cmd
}
