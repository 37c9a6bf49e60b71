package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// hide keeps a flag out of the help. MarkHidden fails only for a flag that
// isn't defined.
func hide(flags *pflag.FlagSet, name string) {
	if err := flags.MarkHidden(name); err != nil {
		panic(err)
	}
}

func addJSON(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVar(to, "json", false, "write JSON, one object a line")
}
