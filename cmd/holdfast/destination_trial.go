package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) destinationTestCommand() *cobra.Command {
	req := &pb.TestDestinationRequest{}
	var from string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test NAME [--host HOST:PORT] [--to ADDRESS]...",
		Short: "Try a delivery step by step, at the present hosts or at a new one",
		Long: `Try a delivery to a destination and show each step with the time since the
beginning: look-ups, connection, greeting, EHLO, TLS with the certificate, AUTH,
and with --to the envelope. It stops before the message unless --send is given,
changes nothing, and takes none of the destination's slots.

Each of its hosts is tried; with --host one that it doesn't have yet is tried
with its settings, before "holdfast destination set NAME --host" moves its mail
there. The node that is asked (--addr) makes the connection, from its own
address: ask each node before a migration.

The exit status is 0 where every host went well (with --send: one of them took
the message for all recipients), else 1.`,
		Example: `  holdfast destination test office
  holdfast destination test office --host new.example.com:25 --to you@example.com
  holdfast destination test office --host new.example.com:25 --to you@example.com --send`,
		Args: oneArgument("destination"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Name = args[0]
			switch {
			case from == "<>":
			case from != "":
				req.From = from
			case req.Send:
				host, err := os.Hostname()
				if err != nil {
					host = "localhost"
				}
				req.From = "test@" + host
			}
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				return a.testDestination(ctx, pb.NewDestinationServiceClient(conn), req, asJSON)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&req.Host, "host", "", "HOST:PORT to try in place of the destination's own hosts")
	flags.StringVar(&from, "from", "", "sender, <> for the null sender (default: the null sender, with --send test@ this host)")
	flags.StringSliceVar(&req.Recipients, "to", nil, "recipient to ask for, several are allowed")
	flags.BoolVar(&req.Send, "send", false, "send a short test message to the recipients, at the first host that takes it")
	addJSON(cmd, &asJSON)
	return cmd
}

// testDestination shows the steps as they come.
func (a *app) testDestination(ctx context.Context, destinations pb.DestinationServiceClient, req *pb.TestDestinationRequest, asJSON bool) error {
	stream, err := destinations.TestDestination(ctx, req)
	if err != nil {
		return err
	}
	var trouble *pb.TestDestinationResponse_Verdict
	taken := false
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		v := r.GetVerdict()
		switch {
		case v == nil:
		case v.Error == nil:
			taken = true
		case trouble == nil:
			trouble = v
		}
		show := a.showTrial
		if asJSON {
			show = a.writeTrialJSON
		}
		if err := show(r); err != nil {
			return err
		}
	}
	if trouble == nil || req.Send && taken {
		return nil
	}
	return fmt.Errorf("destination %s: %s", req.Name, describeError(trouble.Error))
}

func (a *app) showTrial(r *pb.TestDestinationResponse) error {
	if v := r.GetVerdict(); v != nil {
		security := v.Tls
		if security == "" {
			security = "no TLS"
		}
		words := "all went well, " + security
		if v.Error != nil {
			words = describeError(v.Error)
		}
		_, err := fmt.Fprintf(a.out, "%s after %s ms: %s\n", v.Host, milliseconds(v.Took.AsDuration()), printable(words))
		return err
	}
	line := r.GetLine()
	mark := "   "
	switch line.GetKind() {
	case pb.TestDestinationResponse_Line_KIND_SENT:
		mark = "-->"
	case pb.TestDestinationResponse_Line_KIND_RECEIVED:
		mark = "<--"
	}
	_, err := fmt.Fprintf(a.out, "%10s %s %s\n", milliseconds(line.GetAt().AsDuration()), mark, printable(line.GetText()))
	return err
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()*1e3) }

// trialLineJSON is a step of a test; the last of each host is a verdict.
type trialLineJSON struct {
	Kind string     `json:"kind"` // step, sent, received or verdict
	Text *string    `json:"text"`
	Took float64    `json:"seconds"`
	Host *string    `json:"host"`
	TLS  *string    `json:"tls"`
	Err  *errorJSON `json:"error"`
}

func (a *app) writeTrialJSON(r *pb.TestDestinationResponse) error {
	if v := r.GetVerdict(); v != nil {
		return a.writeJSON(trialLineJSON{
			Kind: "verdict", Took: v.Took.AsDuration().Seconds(), Host: orNull(v.Host), TLS: orNull(v.Tls), Err: toErrorJSON(v.Error),
		})
	}
	line := r.GetLine()
	kind := strings.ToLower(strings.TrimPrefix(line.GetKind().String(), "KIND_"))
	return a.writeJSON(trialLineJSON{Kind: kind, Text: orNull(line.GetText()), Took: line.GetAt().AsDuration().Seconds()})
}
