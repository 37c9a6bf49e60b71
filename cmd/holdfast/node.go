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

// optional is the one argument of a command, "" where it was left out.
func optional(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
