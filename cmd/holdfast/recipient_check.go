package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

type checkJSON struct {
	Address  string       `json:"address"`
	Taken    bool         `json:"taken"`
	Code     uint32       `json:"code"`
	Enhanced *string      `json:"enhanced"`
	Text     *string      `json:"text"`
	Reason   string       `json:"reason"`
	Failure  *string      `json:"failure"`
	Verified *verdictJSON `json:"verified"`
}

func (a *app) recipientCheckCommand() *cobra.Command {
	var anew, asJSON bool
	cmd := &cobra.Command{
		Use:   "check ADDRESS",
		Short: "Show what RCPT would be answered, and why",
		Long: `Show what a client would be answered now that names this recipient in RCPT, and why.
As with RCPT itself, a destination is asked about a recipient of which nothing is
known. It is what a stranger is answered: who authenticated, or comes from a relay
network, may also send to domains that aren't configured, by the domain '*'.

--anew has it asked whatever is known, and what it says is kept: for a mailbox that was
made a moment ago and is still refused. It needs the role operator.

Exit status: 0 where the recipient would be taken, 1 where it wouldn't, for good or
now.`,
		Example: `  holdfast recipient check anna@example.com
  holdfast recipient check anna@example.com --anew`,
		Args: oneArgument("address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewRecipientServiceClient(conn).CheckRecipient(ctx, &pb.CheckRecipientRequest{Address: args[0], Anew: anew})
				if err != nil {
					return err
				}
				return a.tellCheck(args[0], r, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&anew, "anew", false, "ask the destination, whatever is known")
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) tellCheck(address string, r *pb.CheckRecipientResponse, asJSON bool) error {
	show := a.showCheck
	if asJSON {
		show = a.writeCheckJSON
	}
	if err := show(address, r); err != nil {
		return err
	}
	if isTaken(r) {
		return nil
	}
	return fmt.Errorf("%s would be answered %s", printable(address), printable(replyWord(r)))
}

func replyWord(r *pb.CheckRecipientResponse) string {
	return strings.Join(strings.Fields(fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text)), " ")
}

func isTaken(r *pb.CheckRecipientResponse) bool { return r.Code/100 == 2 }

func (a *app) showCheck(address string, r *pb.CheckRecipientResponse) error {
	t := newTable(a.out)
	look := green
	if !isTaken(r) {
		look = red
	}
	t.row("RCPT", cell{replyWord(r), look})
	t.row("why", whyWord(address, r))
	if r.Failure != "" {
		t.row("failure", printable(r.Failure))
	}
	if v := r.Verified; v != nil {
		known := verdictWord(v.Verdict) + " since " + a.when(v.At)
		if v.Until != nil { // not of an answer that was given just now
			known += ", until " + a.when(v.Until)
		}
		t.row("known", known)
		if v.Error != nil {
			t.row("answer", describeError(v.Error))
		}
	}
	return t.flush()
}

// whyWord says what a check went by, and what to do where a recipient isn't taken.
func whyWord(address string, r *pb.CheckRecipientResponse) string {
	domain := relay.RelayDomain(address)
	switch r.Reason {
	case pb.CheckRecipientResponse_REASON_OFF:
		return "domain " + domain + " takes all recipients (verify off)"
	case pb.CheckRecipientResponse_REASON_LISTED:
		return "it is listed"
	case pb.CheckRecipientResponse_REASON_NOT_LISTED:
		return "domain " + domain + " takes listed recipients only (verify listed): `holdfast recipient add` lists it"
	case pb.CheckRecipientResponse_REASON_VALID:
		return "the destination takes it"
	case pb.CheckRecipientResponse_REASON_INVALID:
		return "the destination refuses it: once it exists there, --anew asks again"
	case pb.CheckRecipientResponse_REASON_ACCEPTS_ANY:
		return "the destination takes any recipient of " + domain
	case pb.CheckRecipientResponse_REASON_UNKNOWN:
		return unknownWord(domain, r)
	case pb.CheckRecipientResponse_REASON_NO_DOMAIN:
		return "domain " + domain + " isn't configured: `holdfast domain list` shows those that are"
	}
	return reasonWord(r.Reason)
}

// unknownWord says why nobody can say whether there is such a recipient.
func unknownWord(domain string, r *pb.CheckRecipientResponse) string {
	switch {
	case r.Code != 450:
		return "no mail to " + domain + " is taken right now: `holdfast status` shows why"
	case r.Failure != "":
		return "nothing is known of it, and the destination couldn't say"
	case r.Verified != nil:
		return "the destination takes any recipient, and can't be asked now: `holdfast destination show` says why"
	}
	return "nothing is known of it, and the destination can't be asked now: `holdfast destination show` says why"
}

// reasonWord is a reason in lower case: not-listed.
func reasonWord(reason pb.CheckRecipientResponse_Reason) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(reason.String(), "REASON_")), "_", "-")
}

func (a *app) writeCheckJSON(address string, r *pb.CheckRecipientResponse) error {
	line := checkJSON{
		Address: address, Taken: isTaken(r), Code: r.Code, Enhanced: orNull(r.Enhanced), Text: orNull(r.Text), Reason: reasonWord(r.Reason),
		Failure: orNull(r.Failure),
	}
	if r.Verified != nil {
		line.Verified = new(toVerdictJSON(r.Verified))
	}
	return a.writeJSON(line)
}
