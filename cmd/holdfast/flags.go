package main

import (
	"slices"

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

// emptyIsMeant marks flags for which "" is a value as any other: it ends what they set,
// or is a text.
const emptyIsMeant = "holdfast-empty"

// allowEmpty has flags take "". SetAnnotation fails only for one that isn't defined.
func allowEmpty(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		if err := flags.SetAnnotation(name, emptyIsMeant, []string{"yes"}); err != nil {
			panic(err)
		}
	}
}

// refuseEmpty is for all commands: --domain "$NAME" without a NAME isn't meant for all
// domains, --at "$BEFORE" not for now, and --addr "$NODE" not for the node here.
func refuseEmpty(cmd *cobra.Command, _ []string) error {
	var refused error
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if refused != nil || flag.Annotations[emptyIsMeant] != nil || !isEmptyValue(flag.Value) {
			return
		}
		hint := ""
		if flag.Name == "from" {
			hint = ` (the null sender is "<>")`
		}
		what := "is given, and empty"
		if flag.Value.String() != "" && flag.Value.String() != "[]" {
			what = "has an empty item"
		}
		refused = usage("--%s %s%s", flag.Name, what, hint)
	})
	return refused
}

func isEmptyValue(value pflag.Value) bool {
	if list, ok := value.(pflag.SliceValue); ok {
		items := list.GetSlice()
		return len(items) == 0 || slices.Contains(items, "")
	}
	return value.Type() == "string" && value.String() == ""
}
