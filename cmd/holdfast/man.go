package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// manSection is where pages of commands for everybody are.
const manSection = "1"

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the man pages",
		Long: `Write a man page for this program and one for each of its commands, from what
--help says: holdfast(1), holdfast-queue(1), holdfast-queue-list(1) and so on. DIR
is made if it isn't there; it is the folder of section 1 where man is to find them.`,
		Example: `  holdfast man /usr/local/share/man/man1
  holdfast man ./man && man ./man/holdfast-queue-list.1`,
		Args: oneArgument("folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := writeManPages(cmd.Root(), args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "%s written to %s\n", plural(uint64(n), "page"), args[0])
			return err
		},
	}
}

func writeManPages(root *cobra.Command, dir string) (written int, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	for _, cmd := range withPages(root) {
		page := filepath.Join(dir, manName(cmd)+"."+manSection)
		if writeErr := os.WriteFile(page, []byte(manPage(cmd)), 0o644); writeErr != nil {
			return written, errors.Join(err, writeErr)
		}
		written++
	}
	return written, nil
}

// withPages lists a command and those below it that its help shows.
func withPages(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() {
			all = append(all, withPages(child)...)
		}
	}
	return all
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }
