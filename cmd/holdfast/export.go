package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) exportCommand() *cobra.Command {
	var withoutRevision bool
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the configuration as one file",
		Long: `Write domains, destinations, retry policies and settings as one TOML file, for
"holdfast apply". The order is always the same, so that two exports can be
compared. Passwords, tokens and accounts are never written.

The file's revision says what it was made from, so that applying it later doesn't
overwrite what others changed meanwhile. Leave it out of a file that several
clusters are given.`,
		Example: `  holdfast export > holdfast.toml
  holdfast export --no-revision | diff holdfast.toml -`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				ctx, cancel := context.WithTimeout(ctx, callPatience)
				defer cancel()
				stream, err := pb.NewSettingsServiceClient(conn).ExportConfiguration(ctx,
					&pb.ExportConfigurationRequest{WithoutRevision: withoutRevision})
				if err != nil {
					return err
				}
				for warned := false; ; {
					r, err := stream.Recv()
					if errors.Is(err, io.EOF) {
						return nil
					}
					if err != nil {
						return err
					}
					a.warnStale(r.Stale && !warned)
					warned = true
					if _, err := a.out.Write(r.Data); err != nil {
						return err
					}
				}
			})
		},
	}
	cmd.Flags().BoolVar(&withoutRevision, "no-revision", false, "leave out what the file was made from")
	return cmd
}
