package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// later are flags of the contract whose feature isn't there yet, with the
// values that say what the program does anyway. They are refused in words, and
// don't show in the help.
type later map[string][]string

func (l later) add(flags *pflag.FlagSet) {
	for name := range l {
		flags.StringArray(name, nil, "")
		hide(flags, name)
	}
}

func (l later) refuse(cmd *cobra.Command) error {
	var refused error
	// Visit goes in the order of the names.
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		fine, known := l[flag.Name]
		if !known || refused != nil {
			return
		}
		value := strings.Trim(flag.Value.String(), "[]")
		for _, allowed := range fine {
			if value == allowed {
				return
			}
		}
		refused = notYet("--" + flag.Name + " " + value)
	})
	return refused
}

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
