package main

import "github.com/spf13/cobra"

func (a *app) clusterCommand() *cobra.Command {
	cluster := group("cluster", "Check the cluster, change its members, recover it", "")
	cluster.AddCommand(
		a.clusterJoinCommand(), a.clusterRemoveCommand(), a.clusterPromoteCommand(),
		a.clusterTransferCommand(), a.clusterVerifyCommand(), a.clusterRecoverCommand(), a.clusterDrillCommand(),
	)
	return cluster
}
