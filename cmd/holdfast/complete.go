package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
)

// completionPatience is how long a press of the tab key may take.
const completionPatience = 2 * time.Second

// nameLister lists what begins with a prefix, each with a few words about it.
type nameLister func(ctx context.Context, conn *grpc.ClientConn, prefix string) ([]cobra.Completion, error)

// completedArguments are the commands whose arguments are completed.
func (a *app) completedArguments() map[string]cobra.CompletionFunc {
	faults := words(sortedKeys(drillFaults)...)
	arguments := map[string]cobra.CompletionFunc{
		"cluster drill": func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			switch {
			case len(args) == 0:
				return faults(cmd, args, prefix)
			case args[0] == "kill-leader":
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.complete(nodeNames, 2)(cmd, args, prefix)
		},
		"log show": a.complete(loggedIDs, 1), "queue show": a.complete(queuedIDs(), 1), "queue cat": a.complete(queuedIDs(), 1),
		"token revoke": a.complete(tokenNames, 1), "queue operations stop": a.complete(runningBulks, 1),
		"account passwd": a.complete(accountNames, 1), "account remove": a.complete(accountNames, 1),
		"snapshot save": completeFile, "snapshot inspect": completeFile, "snapshot restore": completeFile,
		"man":            completeFolder,
		"recipient list": a.complete(domainNames, 1), "recipient remove": a.complete(listedRecipients, maxListedAtOnce),
		"recipient import": func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return completeFile(cmd, args, prefix)
			}
			return a.complete(domainNames, 1)(cmd, args, prefix)
		},
	}
	for _, word := range []string{"set", "show", "remove"} {
		arguments["domain "+word] = a.complete(domainNames, 1)
		arguments["destination "+word] = a.complete(destinationNames, 1)
		arguments["policy "+word] = a.complete(policyNames(word != "show"), 1)
	}
	for _, word := range []string{"suspend", "resume", "retry", "test"} {
		arguments["destination "+word] = a.complete(destinationNames, 1)
	}
	for _, command := range []string{"cluster remove", "cluster promote", "cluster transfer", "node drain", "node resume"} {
		arguments[command] = a.complete(nodeNames, 1)
	}
	for _, op := range queueOperations() {
		arguments["queue "+op.word()] = a.complete(queuedIDs(op.states...), maxIDs)
	}
	return arguments
}

// completedFlags are the flags whose values are completed, by name, or by command
// and name where that differs.
func (a *app) completedFlags() map[string]cobra.CompletionFunc {
	flags := map[string]cobra.CompletionFunc{
		"domain": a.completeFlag(domainNames), "policy": a.completeFlag(policyNames(false)),
		"destination": a.completeFlag(destinationNames), "destination-new": a.completeFlag(destinationNames),
		"recipient remove all": a.completeFlag(domainNames), "verify": words("off", "callout", "listed"),
		"dev destination": cobra.NoFileCompletions, // HOST:PORT
		"id":              a.completeFlag(loggedIDs),
		"by":              words("domain", "destination"),
		"state":           words("pending", "held", "delivered", "bounced", "dropped", "frozen", "deleted", "failed"),
		"role":            words("viewer", "operator", "admin"),
		"tls":             words("none", "opportunistic", "require", "verify"),
		"on-5xx":          words("bounce", "hold"),
		"drill-consent":   words("yes", "no"),
	}
	for _, name := range []string{"file", "config", "token-file", "tls-ca", "tls-cert", "tls-key", "auth-password-file", "password-file"} {
		flags[name] = completeFile
	}
	for _, name := range []string{"dir", "data-dir", "out"} {
		flags[name] = completeFolder
	}
	return flags
}

// addCompletion has every command of the tree complete what the tables say, and
// nothing else: names of files are of no use where none is meant.
func (a *app) addCompletion(root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	arguments, flags := a.completedArguments(), a.completedFlags()
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		path := strings.TrimPrefix(cmd.CommandPath(), root.Name()+" ")
		cmd.ValidArgsFunction = arguments[path]
		each := func(flag *pflag.Flag) {
			complete := flags[path+" "+flag.Name]
			if complete == nil {
				complete = flags[flag.Name]
			}
			if complete == nil || flag.NoOptDefVal != "" {
				return
			}
			if err := cmd.RegisterFlagCompletionFunc(flag.Name, complete); err != nil {
				panic(err) // of a flag that isn't there, or has one
			}
		}
		cmd.LocalFlags().VisitAll(each)
		for _, child := range cmd.Commands() {
			visit(child)
		}
	}
	visit(root)
}

// complete asks a node for the names of up to most arguments. Where none answers,
// or not in time, it offers nothing and says nothing: the line is being typed.
func (a *app) complete(list nameLister, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		patience := cmp.Or(a.completing, completionPatience)
		ctx, cancel := context.WithTimeout(cmd.Context(), patience)
		defer cancel()
		cmd.SetContext(ctx)
		var found []cobra.Completion
		a.patience = patience / 4 // a machine that is off mustn't use up the time of those that answer
		err := a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			found, err = list(ctx, conn, prefix)
			return err
		})
		if tooMany, ok := errors.AsType[*tooManyError](err); ok {
			return cobra.AppendActiveHelp(nil, tooMany.Error()), cobra.ShellCompDirectiveNoFileComp
		}
		if err != nil {
			// Part of a list is worse than none: the shell would type what is common to
			// the part.
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		found = slices.DeleteFunc(found, func(c cobra.Completion) bool {
			name, _, _ := strings.Cut(c, "\t")
			return !strings.HasPrefix(name, prefix) || slices.Contains(args, name)
		})
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFlag is complete for a flag's value, whatever arguments there are.
func (a *app) completeFlag(list nameLister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return a.complete(list, 1)(cmd, nil, prefix)
	}
}

func words(all ...cobra.Completion) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, prefix string) (found []cobra.Completion, _ cobra.ShellCompDirective) {
		for _, word := range all {
			if strings.HasPrefix(word, prefix) {
				found = append(found, word)
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func completeFile(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

func completeFolder(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// described is a name as completion offers it. Shells show what is said of it, and
// a stranger may have had a word in that: only plain text goes there.
func described(name, about string) cobra.Completion {
	return cobra.CompletionWithDesc(name, strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune("$`\\\"'", r) {
			return '?'
		}
		return r
	}, about))
}
