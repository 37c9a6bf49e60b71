package main

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"holdfast/admin/configfile"
	pb "holdfast/proto/holdfast/v1"
)

func (a *app) exportCommand() *cobra.Command {
	var withoutRevision, asJSON bool
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the configuration as one file",
		Long: `Write domains with their lists of recipients, destinations, retry policies and
settings as one TOML file, for "holdfast apply". The order is always the same, so that
two exports can be compared. Passwords, tokens and accounts are never written.

The file's revision says what it was made from, so that applying it later doesn't
overwrite what others changed meanwhile. Leave it out of a file that several
clusters are given.

--json writes the same as one object a line, for scripts: "kind" says what it is,
and the rest is named as "show --json" of each names it. "apply" doesn't read that.`,
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
				if !asJSON {
					return a.receiveExport(stream, a.out)
				}
				var text bytes.Buffer
				if err := a.receiveExport(stream, &text); err != nil {
					return err
				}
				return a.writeExport(configfile.Read(text.Bytes()))
			})
		},
	}
	addJSON(cmd, &asJSON)
	cmd.Flags().BoolVar(&withoutRevision, "no-revision", false, "leave out what the file was made from")
	return cmd
}

func (a *app) receiveExport(stream grpc.ServerStreamingClient[pb.ExportConfigurationResponse], to io.Writer) error {
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
		if _, err := to.Write(r.Data); err != nil {
			return err
		}
	}
}
