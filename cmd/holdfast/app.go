package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// app is the program with its surroundings.
type app struct {
	in       io.Reader
	out, err io.Writer
	now      func() time.Time
	env      func(string) string
	program  string                                    // how it was called, "" for holdfast
	terminal func() bool                               // in is one, so that a question finds an answer
	unseen   func(ctx context.Context) (string, error) // a line from there that it doesn't show

	addresses  []string      // --addr
	patience   time.Duration // with one address to connect; zero: connectPatience
	completing time.Duration // at most, at a press of the tab key; zero: completionPatience
	devPorts   devPorts      // of `dev`; zero: those of the contract
}

// run carries out one command line and returns the exit status.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(a.err, "holdfast: "+oneLine(err))
	}
	return exitStatus(err)
}

func (a *app) root() *cobra.Command {
	root := group("holdfast", "A mail relay that holds mail on a cluster until it is delivered",
		`Holdfast accepts mail on any node of a cluster, keeps it on a majority of them,
and delivers it to each domain's own mail server, however long that is away.

Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 no quorum or no answer.`)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentPreRunE = refuseEmpty
	root.Version = versionString() + " (" + runtime.Version() + ")"
	root.SetVersionTemplate("holdfast {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%v; `%s --help` shows how", err, cmd.CommandPath())
	})
	a.addReachFlags(root)
	root.AddCommand(
		a.devCommand(), a.serverCommand(), a.statusCommand(), a.clusterCommand(),
		a.domainCommand(), a.destinationCommand(), a.policyCommand(), a.recipientCommand(), a.queueCommand(), a.logCommand(),
		a.settingsCommand(), a.applyCommand(), a.exportCommand(), a.sendCommand(), a.versionCommand(), a.manCommand(),
		a.nodeCommand(), a.tlsCommand(), a.snapshotCommand(), a.tokenCommand(), a.accountCommand(), a.wakeParentCommand(),
	)
	a.addCompletion(root)
	return root
}

// group is a command that only has subcommands.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, SuggestionsMinimumDistance: 2,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				return usage("%s; did you mean %s?", text, strings.Join(near, " or "))
			}
			return usage("%s; `%s --help` lists its commands", text, cmd.CommandPath())
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

// arguments turns a wrong number of arguments into a usage error.
func arguments(check cobra.PositionalArgs, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usage("%s: want %s", cmd.CommandPath(), want)
		}
		return nil
	}
}

func noArguments() cobra.PositionalArgs { return arguments(cobra.NoArgs, "no arguments") }

func oneArgument(name string) cobra.PositionalArgs {
	return arguments(cobra.ExactArgs(1), "one "+name)
}
