package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// notYetCommands are the commands of the contract that this version doesn't
// have, with what to do meanwhile. They are refused in words and don't show in
// the help.
var notYetCommands = map[string]string{
	"recipient": "recipients are not verified",
}

// refuseCommand adds a command that only says what there is instead, unless
// there is one of that name.
func refuseCommand(root *cobra.Command, path, instead string) {
	parent, words := root, strings.Fields(path)
	for _, word := range words[:len(words)-1] {
		if parent = childOf(parent, word); parent == nil {
			return
		}
	}
	name := words[len(words)-1]
	if childOf(parent, name) != nil {
		return
	}
	parent.AddCommand(&cobra.Command{
		Use: name, Hidden: true, DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error { return notYet("holdfast " + path + "; " + instead) },
	})
}

func childOf(parent *cobra.Command, name string) *cobra.Command {
	children := parent.Commands()
	i := slices.IndexFunc(children, func(c *cobra.Command) bool { return c.Name() == name })
	if i < 0 {
		return nil
	}
	return children[i]
}
