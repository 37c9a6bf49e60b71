package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) nodeCommand() *cobra.Command {
	node := group("node", "Take a node out of service and put it back", "")
	node.AddCommand(a.nodeDrainCommand(), a.nodeResumeCommand())
	return node
}

// drainText says in one line how far a node has left service.
func drainText(d *pb.Drain) string {
	if d.Since == nil {
		return fmt.Sprintf("node %s is in service", d.Node)
	}
	if d.SafeToStop {
		return fmt.Sprintf("node %s is out of service: safe to stop", d.Node)
	}
	left := []string{plural(uint64(d.Attempts), "delivery attempt")}
	if d.Sessions != nil {
		left = append(left, plural(uint64(*d.Sessions), "SMTP session"))
	} else {
		left = append(left, "its SMTP sessions are unknown, since it doesn't answer")
	}
	if d.Leads {
		left = append(left, "it leads still")
	}
	return fmt.Sprintf("node %s is draining: %s", d.Node, strings.Join(left, ", "))
}

// oneNodeOrNone takes a node's name, or nothing for the command's own choice. An
// empty name is neither: it comes from a variable that wasn't set.
func oneNodeOrNone(cmd *cobra.Command, args []string) error {
	if err := arguments(cobra.MaximumNArgs(1), "one node or none")(cmd, args); err != nil {
		return err
	}
	if len(args) == 1 && args[0] == "" {
		return usage("the node's name is given, and empty: leave it out, or say which node")
	}
	return nil
}

// optional is the one argument of a command, "" where it was left out.
func optional(args []string) string {
	return strings.Join(args, "")
}
