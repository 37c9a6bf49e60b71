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
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

// applyPatience is how long a whole file may take to be in effect everywhere.
const applyPatience = 2 * time.Minute

// applyCommand makes the configuration what a file says.
type applyCommand struct {
	*app
	name    string
	text    []byte
	yes     bool
	asJSON  bool
	options pb.ApplyConfigurationRequest_Options
}

func (a *app) applyCommand() *cobra.Command {
	c := &applyCommand{app: a}
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make the configuration what a file says",
		Long: `Make domains with their lists of recipients, destinations, retry policies and settings
what a file says, as "holdfast export" writes it: all of it at one moment, or nothing.
It shows what will change, and asks; --yes answers in advance, --dry-run only shows. It
returns when every node has it.

What the file doesn't mention stays, unless --prune removes it; that is refused
where there is queued mail. A table of the file is whole: a key that it leaves out
has its default. Settings that are left out stay, --prune or not, and so do the
verification and the list of recipients of a domain whose table has none;
recipients = [] empties the list. A password for AUTH that the file doesn't have
stays as long as its user does.

If the file has a revision, nothing is overwritten that was changed since by
others, or by yourself: make the file anew with "holdfast export", or add --force.
--revision takes its place, as --dry-run shows it; then what you saw is what is
carried out.

Everything wrong with the file is listed with its line, up to 20 errors, and
nothing is changed.`,
		Example: `  holdfast apply -f holdfast.toml --dry-run
  holdfast apply -f holdfast.toml
  holdfast apply -f holdfast.toml --yes --revision 4711
  envsubst < holdfast.toml | holdfast apply -f - --yes`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&c.name, "file", "f", "", "the file, - is stdin (needed)")
	flags.BoolVar(&c.options.DryRun, "dry-run", false, "only show what would change")
	flags.BoolVar(&c.options.Prune, "prune", false, "remove what the file doesn't mention")
	flags.BoolVar(&c.options.Force, "force", false, "overwrite what was changed since the file was made")
	flags.Uint64Var(&c.options.Revision, "revision", 0, "what the file was compared with, in place of the file's own revision")
	flags.BoolVar(&c.yes, "yes", false, "don't ask")
	addJSON(cmd, &c.asJSON)
	return cmd
}

func (c *applyCommand) run(cmd *cobra.Command) error {
	switch {
	case c.name == "":
		return usage("say which file: -f FILE, or -f - for stdin")
	case !c.yes && !c.options.DryRun && (c.name == "-" || !c.terminal()):
		return usage("nobody is there to confirm: add --yes, or --dry-run to see what would change")
	case !c.yes && !c.options.DryRun && c.asJSON:
		return usage("--json doesn't go with a question: add --yes, or --dry-run")
	}
	var err error
	if c.name == "-" {
		c.name = "stdin"
		c.text, err = io.ReadAll(c.in)
	} else {
		c.text, err = os.ReadFile(c.name)
	}
	if err != nil {
		return usage("%v", err)
	}
	return c.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
		return c.explain(c.apply(ctx, pb.NewSettingsServiceClient(conn)))
	})
}

func (c *applyCommand) apply(ctx context.Context, client pb.SettingsServiceClient) error {
	if !c.yes && !c.options.DryRun {
		c.options.DryRun = true // first
		summary, err := c.call(ctx, client)
		if err != nil || summary.Fingerprint == "" {
			return err
		}
		if err := c.ask(); err != nil {
			return err
		}
		c.options.DryRun, c.options.Fingerprint = false, summary.Fingerprint
		_, err = c.call(ctx, client)
		return err
	}
	_, err := c.call(ctx, client)
	return err
}

func (c *applyCommand) call(ctx context.Context, client pb.SettingsServiceClient) (*pb.ConfigurationSummary, error) {
	ctx, cancel := context.WithTimeout(ctx, applyPatience)
	defer cancel()
	stream, err := client.ApplyConfiguration(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.send(stream); err != nil {
		return nil, err
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		switch what := r.What.(type) {
		case *pb.ApplyConfigurationResponse_Difference:
			// What was confirmed has been shown.
			if c.options.Fingerprint == "" {
				err = c.show(what.Difference)
			}
		case *pb.ApplyConfigurationResponse_Summary:
			return what.Summary, c.sumUp(what.Summary)
		}
		if err != nil {
			return nil, err
		}
	}
}

// send hands the file over. A call that has ended tells why when it is read from.
func (c *applyCommand) send(stream pb.SettingsService_ApplyConfigurationClient) error {
	const most = 256 << 10
	err := stream.Send(&pb.ApplyConfigurationRequest{What: &pb.ApplyConfigurationRequest_Options_{Options: &c.options}})
	for text := c.text; len(text) > 0 && err == nil; {
		n := min(most, len(text))
		err = stream.Send(&pb.ApplyConfigurationRequest{What: &pb.ApplyConfigurationRequest_Data{Data: text[:n]}})
		text = text[n:]
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return errors.Join(err, stream.CloseSend())
}

// explain lists on stderr all that is wrong, each line as compilers write it.
func (c *applyCommand) explain(err error) error {
	s, ok := errors.AsType[statusError](err)
	if !ok {
		return err
	}
	for _, detail := range s.GRPCStatus().Details() {
		list, ok := detail.(*errdetails.BadRequest)
		if !ok || len(list.FieldViolations) == 1 && list.FieldViolations[0].Description == s.GRPCStatus().Message() {
			continue
		}
		for _, v := range list.FieldViolations {
			line := strings.TrimPrefix(v.Field, "line ")
			if line != "" {
				line += ":"
			}
			fmt.Fprintf(c.err, "%s:%s %s\n", c.name, line, printable(v.Description))
		}
	}
	return fmt.Errorf("%s: %w", c.name, err)
}

type differenceJSON struct {
	Action string      `json:"action"`
	Kind   string      `json:"kind"`
	Name   *string     `json:"name"`
	Values []valueJSON `json:"values"`
}

// valueJSON has values as they are written in TOML, and of a list of recipients how
// many there are.
type valueJSON struct {
	Key string  `json:"key"`
	Old *string `json:"old"`
	New *string `json:"new"`
}

// summaryJSON is the last line. Without index nothing was changed.
type summaryJSON struct {
	Created  uint32  `json:"created"`
	Changed  uint32  `json:"changed"`
	Removed  uint32  `json:"removed"`
	Revision uint64  `json:"revision"`
	Index    *uint64 `json:"index"`
	Stale    bool    `json:"stale"`
}

func (c *applyCommand) show(d *pb.ConfigurationDifference) error {
	if c.asJSON {
		line := differenceJSON{
			Action: strings.ToLower(strings.TrimPrefix(d.Action.String(), "ACTION_")), Kind: d.Kind, Name: orNull(d.Name),
			Values: []valueJSON{},
		}
		for _, v := range d.Values {
			line.Values = append(line.Values, valueJSON{v.Key, orNull(v.Old), orNull(v.New)})
		}
		return c.writeJSON(line)
	}
	var b strings.Builder
	sign := map[pb.ConfigurationDifference_Action]string{
		pb.ConfigurationDifference_ACTION_CREATE: "+", pb.ConfigurationDifference_ACTION_CHANGE: "~",
		pb.ConfigurationDifference_ACTION_REMOVE: "-",
	}[d.Action]
	fmt.Fprintln(&b, strings.TrimSpace(sign+" "+d.Kind+" "+printable(d.Name)))
	for _, v := range d.Values {
		switch {
		case v.Old == "":
			fmt.Fprintf(&b, "    + %s = %s\n", v.Key, v.New)
		case v.New == "":
			fmt.Fprintf(&b, "    - %s = %s\n", v.Key, v.Old)
		default:
			fmt.Fprintf(&b, "    ~ %s = %s -> %s\n", v.Key, v.Old, v.New)
		}
	}
	_, err := io.WriteString(c.out, b.String())
	return err
}

func (c *applyCommand) sumUp(s *pb.ConfigurationSummary) error {
	c.warnStale(s.Stale)
	if s.ForeignRevision {
		fmt.Fprintf(c.err, "holdfast: the revision of %s is another cluster's and wasn't compared\n", c.name)
	}
	if c.asJSON {
		return c.writeJSON(summaryJSON{
			Created: s.Created, Changed: s.Changed, Removed: s.Removed, Revision: s.Revision, Index: orNull(s.Index), Stale: s.Stale,
		})
	}
	counts := fmt.Sprintf("%d to create, %d to change, %d to remove", s.Created, s.Changed, s.Removed)
	var err error
	switch {
	case s.Fingerprint == "":
		_, err = fmt.Fprintf(c.out, "nothing to change: the configuration is as the file says (revision %d)\n", s.Revision)
	case s.Index == 0:
		_, err = fmt.Fprintf(c.out, "%s; compared with revision %d\n", counts, s.Revision)
	default:
		_, err = fmt.Fprintf(c.out, "%d created, %d changed, %d removed: revision %d\n", s.Created, s.Changed, s.Removed, s.Index)
	}
	return err
}
