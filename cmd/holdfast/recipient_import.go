package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"holdfast/relay"
)

// importCommand makes a domain's list what a file says.
type importCommand struct {
	*app
	domain       string
	name         string // of the file
	replace, yes bool
}

func (a *app) recipientImportCommand() *cobra.Command {
	c := &importCommand{app: a}
	cmd := &cobra.Command{
		Use:   "import DOMAIN FILE",
		Short: "List the recipients of a file",
		Long: `Add the recipients of a file, - is stdin, to a domain's list. The file has an address
or a local part in each line; blank lines count for nothing, and so does what follows a
# at the beginning of a line or after a blank. All of it is checked before anything is
changed, and what is wrong is listed with its line.

--replace then removes from the list what the file doesn't have. It shows how many that
are, and asks; --yes answers in advance. What is in the list and in the file is listed
all the time.

It is carried out in pieces of 1,000 and is safe to repeat, also where it was
interrupted. A domain lists 100,000 recipients at most.`,
		Example: `  holdfast recipient import example.com mailboxes.txt
  holdfast recipient import example.com mailboxes.txt --replace
  cat mailboxes.txt | holdfast recipient import example.com - --replace --yes`,
		Args: arguments(cobra.ExactArgs(2), "a domain and a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.domain, c.name = domainWord(args[0]), args[1]
			return c.run(cmd)
		},
	}
	cmd.Flags().BoolVar(&c.replace, "replace", false, "remove from the list what the file doesn't have")
	cmd.Flags().BoolVar(&c.yes, "yes", false, "don't ask")
	return cmd
}

func (c *importCommand) run(cmd *cobra.Command) error {
	if c.replace && !c.yes && (c.name == "-" || !c.terminal()) {
		return usage("nobody is there to confirm what --replace removes: add --yes")
	}
	wanted, err := c.read()
	if err != nil {
		return err
	}
	if c.replace && len(wanted) == 0 {
		return usage("%s has no recipient, nothing was changed: `holdfast recipient remove --all %s` empties the list", c.name, c.domain)
	}
	return c.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
		return c.carryOut(ctx, conn, wanted)
	})
}

// read is the file's recipients as addresses, each once, in its order.
func (c *importCommand) read() ([]string, error) {
	var text []byte
	var err error
	if c.name == "-" {
		c.name = "stdin"
		text, err = io.ReadAll(c.in)
	} else {
		text, err = os.ReadFile(c.name)
	}
	if err != nil {
		return nil, usage("%v", err)
	}
	const most = 20 // errors that are listed
	var wanted []string
	seen, wrong, number := map[string]bool{}, uint64(0), 0
	// Some programs mark UTF-8 with an invisible character in front of the first name.
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	for line := range bytes.Lines(text) {
		number++
		given := recipientOf(string(line))
		if given == "" {
			continue
		}
		local, err := relay.ListedLocalPart(c.domain, given)
		if err != nil {
			if wrong++; wrong <= most {
				fmt.Fprintf(c.err, "%s:%d: %s\n", c.name, number, printable(err.Error()))
			}
			continue
		}
		if address := local + "@" + c.domain; !seen[address] {
			seen[address] = true
			wanted = append(wanted, address)
		}
	}
	if wrong > 0 {
		return nil, usage("%s: %s, nothing was changed", c.name, plural(wrong, "error"))
	}
	return wanted, nil
}

// recipientOf is a line of the file without its comment. A # is allowed in a local
// part (RFC 5322 section 3.2.3), and a blank in a quoted one.
func recipientOf(line string) string {
	line = strings.TrimSpace(line)
	switch {
	case strings.HasPrefix(line, "#"):
		return ""
	case strings.HasPrefix(line, `"`):
		return line
	}
	for _, comment := range []string{" #", "\t#"} {
		line, _, _ = strings.Cut(line, comment)
	}
	return strings.TrimSpace(line)
}

// carryOut adds first and removes last, so that who is in the list and in the file is
// taken at every moment.
func (c *importCommand) carryOut(ctx context.Context, conn *grpc.ClientConn, wanted []string) error {
	present, stale, err := listedBy(ctx, conn, c.domain)
	if err != nil {
		return err
	}
	missing, surplus := without(wanted, present), []string(nil)
	if c.replace {
		surplus = without(present, wanted)
	}
	c.warnStale(stale && len(missing)+len(surplus) == 0)
	if err := c.refuseTooMany(len(present), len(missing), len(surplus)); err != nil {
		return err
	}
	if len(surplus) > 0 && !c.yes {
		fmt.Fprintf(c.out, "%s would be added to the list of %s, and %s taken off it that %s doesn't have: %s\n",
			plural(uint64(len(missing)), "recipient"), c.domain, plural(uint64(len(surplus)), "recipient"), c.name, some(surplus))
		if err := c.ask(); err != nil {
			return err
		}
	}
	added, err := c.inPieces(ctx, adding(conn), "added", c.domain, missing)
	if err != nil {
		return err
	}
	removed, err := c.inPieces(ctx, removing(conn), "removed", c.domain, surplus)
	if err != nil {
		return fmt.Errorf("%w; what the file has is listed (%s added)", err, plural(added.changed, "recipient"))
	}
	listed := uint64(len(present)) + added.changed - removed.changed
	_, err = fmt.Fprintf(c.out, "domain %s: %s of %s added, %d listed before, %s removed; it lists %d\n",
		c.domain, plural(added.changed, "recipient"), c.name, uint64(len(wanted))-added.changed, plural(removed.changed, "recipient"), listed)
	return err
}

// refuseTooMany says before anything is changed what the cluster would say halfway.
func (c *importCommand) refuseTooMany(present, missing, surplus int) error {
	switch {
	case missing == 0 || present+missing <= maxListed:
		return nil
	case present+missing-surplus <= maxListed:
		return fmt.Errorf("domain %s would list %d recipients before the %d go that %s doesn't have, %d at most; nothing was changed: `holdfast recipient remove` takes some of those off first",
			c.domain, present+missing, surplus, c.name, maxListed)
	}
	return fmt.Errorf("domain %s would list %d recipients, %d at most; nothing was changed: with `holdfast domain set %s --verify callout` its destination is asked for them",
		c.domain, present+missing-surplus, maxListed, c.domain)
}

// without are those of all that aren't among some.
func without(all, some []string) []string {
	among := make(map[string]bool, len(some))
	for _, s := range some {
		among[s] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return among[s] })
}
