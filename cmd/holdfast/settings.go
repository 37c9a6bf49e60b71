package main

import "github.com/spf13/cobra"

func (a *app) settingsCommand() *cobra.Command {
	settings := group("settings", "Settings that hold for the whole cluster",
		`Settings that hold for the whole cluster, as opposed to the node file of each
node.`)
	settings.AddCommand(a.settingsShowCommand(), a.settingsSetCommand())
	return settings
}
