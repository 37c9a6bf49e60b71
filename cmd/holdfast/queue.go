package main

import "github.com/spf13/cobra"

func (a *app) queueCommand() *cobra.Command {
	queue := group("queue", "See and act on mail that waits",
		`The queue is all messages with a recipient that is pending, held or frozen.`)
	queue.AddCommand(a.queueListCommand(), a.queueShowCommand(), a.queueCountCommand(), a.queueCatCommand(), a.queueOperationsCommand())
	queue.AddCommand(a.operationCommands()...)
	return queue
}
