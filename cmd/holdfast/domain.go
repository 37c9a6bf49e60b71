package main

import (
	"github.com/spf13/cobra"

	"holdfast/admin/configfile"
	pb "holdfast/proto/holdfast/v1"
)

type domainJSON struct {
	Name        string   `json:"name"`
	Destination string   `json:"destination"`
	Policy      string   `json:"policy"`
	Verify      string   `json:"verify"`
	Listed      uint64   `json:"listed"`
	SpamIf      []string `json:"spamIf"`
	// In seconds.
	SpamRetention float64 `json:"spamRetention"`
	MaxMessages   *uint64 `json:"maxMessages"`
	MaxBytes      *uint64 `json:"maxBytes"`
	Messages      uint64  `json:"messages"`
	Bytes         uint64  `json:"bytes"`
	endedJSON
}

func (a *app) domainCommand() *cobra.Command {
	domain := group("domain", "Domains that mail is accepted for",
		`Mail is accepted for the domains set here and for no other. Each names the
destination that its mail goes to. A domain named '*' is the way of mail to all
others, for clients that authenticated or come from a relay network.`)
	domain.AddCommand(a.domainSetCommand(), a.domainShowCommand(), a.domainListCommand(), a.domainRemoveCommand())
	return domain
}

func toDomainJSON(d *pb.Domain) domainJSON {
	return domainJSON{
		Name: d.Name, Destination: d.Destination, Policy: d.Policy, Verify: configfile.VerifyWord(d.Verify), Listed: d.Listed,
		SpamIf: append([]string{}, d.SpamIf...), SpamRetention: d.SpamRetention.AsDuration().Seconds(),
		MaxMessages: orNull(d.MaxMessages), MaxBytes: orNull(d.MaxBytes), Messages: d.Messages, Bytes: d.Bytes,
		endedJSON: toEndedJSON(d.Count),
	}
}
