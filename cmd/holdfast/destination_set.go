package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func (a *app) destinationSetCommand() *cobra.Command {
	var hosts []string
	var slots uint32
	var mx, tls, on5xx, user, passwordFile string
	var probeMax durationFlag
	var undo bool
	cmd := &cobra.Command{
		Use:   "set NAME --host HOST:PORT[,priority=N,weight=N]...",
		Short: "Create a destination, or change it",
		Long: `Create a destination, or change what is given of one that is set; --host
replaces the whole list. New and queued mail alike go to the new hosts, from one
point of the log on. It returns when every node has it.

"holdfast destination test" tries new hosts before; --undo gives a destination
the hosts back that it had before the latest change of them, and undoes itself
when it is given again.`,
		Example: `  holdfast destination set office --host mail.example.com:25
  holdfast destination set office --host mx1.example.com:25,priority=10 --host mx2.example.com:25,priority=20
  holdfast destination set office --slots 5 --tls require
  holdfast destination set office --mx example.com --on-5xx hold
  holdfast destination set office --undo
  holdfast destination set office --auth-user relay --auth-password-file /etc/holdfast/office.password`,
		Args: oneArgument("destination"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &pb.SetDestinationRequest{Name: args[0], Undo: undo}
			for _, text := range hosts {
				h, err := relay.ParseHost(text)
				if err != nil {
					return usage("--host: %v", err)
				}
				req.Hosts = append(req.Hosts, &pb.DestinationHost{Address: h.Address, Priority: h.Priority, Weight: h.Weight})
			}
			if cmd.Flags().Changed("slots") {
				req.Slots = &slots
			}
			for name, f := range map[string]struct {
				value *string
				field **string
			}{"mx": {&mx, &req.Mx}, "tls": {&tls, &req.Tls}, "on-5xx": {&on5xx, &req.On_5Xx}, "auth-user": {&user, &req.AuthUser}} {
				if cmd.Flags().Changed(name) {
					*f.field = f.value
				}
			}
			if cmd.Flags().Changed("auth-password-file") {
				password, err := a.readPassword("--auth-password-file", passwordFile)
				if err != nil {
					return err
				}
				req.AuthPassword = &password
			}
			if cmd.Flags().Changed("probe-max") {
				req.ProbeMax = durationpb.New(probeMax.value)
			}
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewDestinationServiceClient(conn).SetDestination(ctx, req)
				if err != nil {
					return err
				}
				d := r.Destination
				_, err = fmt.Fprintf(a.out, "destination %s %s: %s, %d slots, tls %s\n",
					d.Name, createdWord(r.Created), hostList(d), d.Slots, d.Tls)
				if err == nil && (undo || len(hosts) > 0 || mx != "") && d.EarlierUntil != nil {
					_, err = fmt.Fprintf(a.out, "before: %s; `holdfast destination set %s --undo` takes it back\n", earlierHosts(d), d.Name)
				}
				return err
			})
		},
	}
	cmd.Flags().StringArrayVar(&hosts, "host", nil, "HOST:PORT[,priority=N,weight=N], several are allowed (needed for a new destination)")
	cmd.Flags().StringVar(&mx, "mx", "", "the hosts are those of this name's MX records, in place of --host")
	cmd.Flags().BoolVar(&undo, "undo", false, "the hosts are those that it had before the latest change of them, in place of --host")
	cmd.Flags().Uint32Var(&slots, "slots", 0, fmt.Sprintf("connections at most, over all nodes (default %d for a new destination)", relay.DefaultSlots))
	cmd.Flags().StringVar(&tls, "tls", "", "none, opportunistic, require or verify (default opportunistic for a new destination)")
	cmd.Flags().Var(&probeMax, "probe-max", "longest time between probes while it is down (default 5m for a new destination)")
	cmd.Flags().StringVar(&on5xx, "on-5xx", "", "bounce, or hold what is refused as if it were deferred (default bounce for a new destination)")
	cmd.Flags().StringVar(&user, "auth-user", "", "user name for AUTH, \"\" to end it")
	cmd.Flags().StringVar(&passwordFile, "auth-password-file", "", "file with the password for AUTH in its first line, - is stdin")
	allowEmpty(cmd.Flags(), "auth-user")
	return cmd
}

// readPassword reads the first line of a file: a password on the command line
// would be seen by everybody on the machine.
func (a *app) readPassword(flag, name string) (string, error) {
	var content []byte
	var err error
	if name == "-" {
		content, err = io.ReadAll(a.in)
	} else {
		content, err = os.ReadFile(name)
	}
	if err != nil {
		return "", usage("%s: %v", flag, err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", usage("%s: %s has no password in its first line", flag, name)
	}
	return line, nil
}
