package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"holdfast/admin/configfile"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

func (a *app) domainSetCommand() *cobra.Command {
	var destination, policy, verify string
	var spamIf []string
	var spamRetention durationFlag
	var maxMessages, maxBytes uint64
	cmd := &cobra.Command{
		Use:   "set NAME --destination DEST",
		Short: "Accept mail for a domain, or change where it goes",
		Long: `Accept mail for a domain, or change what is given of one that is set. It
returns when every node has it.

--verify says which recipients of the domain are taken:

  callout  those that its destination takes. It is asked when one comes up for the
           first time, and the answer is kept: for one that exists 4 days, and for
           one that it refuses 2 hours (holdfast settings). While it is down, those
           that are known, and those that are listed, are taken and their mail held;
           others are answered 450, so that their senders keep the mail
  listed   those of the list that "holdfast recipient" keeps, and no others
  off      all. What the destination refuses is returned to its sender then

A new domain has callout where nothing is said, '*' off.

Mail that a filter has marked as spam is never returned to its sender: where the
destination refuses it, or defers it for longer than the spam retention, it is
dropped and counted. What is marked is a rule on its headers:

  HEADER            the header is there
  HEADER=VALUE      it has this value; != for another one. Case doesn't matter
  HEADER>NUMBER     it begins with a higher number; >= < <= likewise

Several --spam-if must all hold; where a header stands more than once, one of
them is enough. The rules are looked at when a message is accepted. --spam-if ''
takes them away.

Over --max-messages or --max-bytes of held mail the domain's recipients are
answered 452 4.2.2, and nobody else's. A message counts until its last recipient
at the domain has ended.

NAME '*', in quotes, is the way of mail to all domains that aren't set: to a
smarthost, say. Only clients that authenticated, and those from a relay network
("holdfast settings set --relay-networks"), may send by it. Everywhere else, in
filters too, * is a name like any other: its mail stays under it when a domain is set
later, and --domain '*' means that mail and not all.`,
		Example: `  holdfast destination set office --host mail.example.com:25
  holdfast domain set example.com --destination office
  holdfast domain set example.com --policy month
  holdfast domain set example.com --verify listed
  holdfast domain set '*' --destination smarthost
  holdfast domain set example.com --spam-if 'X-Spam-Score>5' --spam-if X-Spam-Flag=YES --spam-retention 5d
  holdfast domain set example.com --max-messages 100000 --max-bytes 50000000000`,
		Args: oneArgument("domain"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &pb.SetDomainRequest{Name: args[0]}
			if cmd.Flags().Changed("destination") {
				req.Destination = &destination
			}
			if cmd.Flags().Changed("policy") {
				req.Policy = &policy
			}
			if cmd.Flags().Changed("verify") {
				mode, err := configfile.ParseVerify(verify)
				if err != nil {
					return usage("--%v", err)
				}
				req.Verify = &mode
			}
			if cmd.Flags().Changed("spam-if") {
				req.SpamIf = spamIf
			}
			if cmd.Flags().Changed("spam-retention") {
				req.SpamRetention = durationpb.New(spamRetention.value)
			}
			if cmd.Flags().Changed("max-messages") {
				req.MaxMessages = &maxMessages
			}
			if cmd.Flags().Changed("max-bytes") {
				req.MaxBytes = &maxBytes
			}
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewDomainServiceClient(conn).SetDomain(ctx, req)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.out, "domain %s %s: its mail goes to %s, policy %s, verify %s\n",
					r.Domain.Name, createdWord(r.Created), r.Domain.Destination, r.Domain.Policy, configfile.VerifyWord(r.Domain.Verify))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&destination, "destination", "", "where its mail goes (needed for a new domain)")
	cmd.Flags().StringVar(&policy, "policy", "", "retry policy, as policy list shows them (default "+relay.DefaultPolicy+" for a new domain)")
	cmd.Flags().StringVar(&verify, "verify", "", "which recipients are taken: off, callout or listed (default callout for a new domain)")
	cmd.Flags().StringArrayVar(&spamIf, "spam-if", nil, "rule on a header that marks mail as spam, such as 'X-Spam-Score>5'; several must all hold")
	allowEmpty(cmd.Flags(), "spam-if")
	cmd.Flags().Var(&spamRetention, "spam-retention", "age at which marked mail is dropped (default 5d for a new domain)")
	cmd.Flags().Uint64Var(&maxMessages, "max-messages", 0, "messages held at a time, 0 for no limit")
	cmd.Flags().Uint64Var(&maxBytes, "max-bytes", 0, "bytes held at a time, 0 for no limit")
	return cmd
}

func createdWord(created bool) string {
	if created {
		return "created"
	}
	return "changed"
}
