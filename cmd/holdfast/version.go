package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

type versionJSON struct {
	Version string `json:"version"`
	Go      string `json:"go"`
}

// versionString is the release, or what the build knows of its sources.
func versionString() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "development"
}

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Show this program's version",
		Long:    "Show this program's version. \"holdfast status\" shows the nodes'.",
		Example: "  holdfast version",
		Args:    noArguments(),
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return a.writeJSON(versionJSON{Version: versionString(), Go: runtime.Version()})
			}
			_, err := fmt.Fprintf(a.out, "holdfast %s (%s)\n", versionString(), runtime.Version())
			return err
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}
