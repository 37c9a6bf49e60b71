package main

import "github.com/spf13/cobra"

func (a *app) logCommand() *cobra.Command {
	log := group("log", "Search all messages, finished ones too",
		`The log has every message that was accepted, with every attempt to deliver it.`)
	log.AddCommand(a.logSearchCommand(), a.logTailCommand(), a.logShowCommand())
	return log
}
