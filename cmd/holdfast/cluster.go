package main

import "github.com/spf13/cobra"

func (a *app) clusterCommand() *cobra.Command {
	cluster := group("cluster", "Check the cluster", "")
	cluster.AddCommand(a.clusterVerifyCommand())
	return cluster
}
