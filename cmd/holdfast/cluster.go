package main

import "github.com/spf13/cobra"

func (a *app) clusterCommand() *cobra.Command {
	cluster := group("cluster", "Check the cluster and change its members", "")
	cluster.AddCommand(
		a.clusterJoinCommand(), a.clusterRemoveCommand(), a.clusterPromoteCommand(),
		a.clusterTransferCommand(), a.clusterVerifyCommand(),
	)
	return cluster
}
