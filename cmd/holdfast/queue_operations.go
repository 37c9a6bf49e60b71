package main

import (
	"strings"

	"github.com/spf13/cobra"

	pb "holdfast/proto/holdfast/v1"
)

// operation is a command of `queue` that changes recipients. All of them work
// alike (queue_operate.go).
type operation struct {
	kind        pb.Operation_Kind
	short, long string
	// states are those of the recipients that it is for.
	states []pb.RecipientState
	// done ends the sentence "3 messages with 4 recipients …", would begins
	// what follows "3 messages with 4 recipients would be".
	done, would string
	next        string // what can be done then, if anything was hit
	// late is what happens to a recipient whose attempt under way fails.
	late    string
	example string
}

var (
	queueRetry = operation{
		kind: pb.Operation_KIND_RETRY, short: "Try pending messages now",
		states: []pb.RecipientState{pb.RecipientState_RECIPIENT_STATE_PENDING},
		long: `Make pending recipients due now. A destination that is down is probed now, and its
mail follows once it is back; the slots of a destination are never exceeded.
What is being tried right now is left out; what is held needs "release".`,
		done: "made due now", would: "made due now",
		example: `  holdfast queue retry --domain example.com --dry-run`,
	}
	queueHold = operation{
		kind: pb.Operation_KIND_HOLD, short: "Hold pending messages until they are released",
		states: []pb.RecipientState{pb.RecipientState_RECIPIENT_STATE_PENDING},
		long: `Hold pending recipients: no attempt is made until "holdfast queue release". The
retention goes on, but what is held at its end stays held.`,
		done: "held", would: "held", late: "held if that attempt fails",
		example: `  holdfast queue hold --to '*@example.com' --reason 'suspicious, ticket 4711'`,
	}
	queueRelease = operation{
		kind: pb.Operation_KIND_RELEASE, short: "Release held messages and try them now",
		states: []pb.RecipientState{pb.RecipientState_RECIPIENT_STATE_HELD},
		long:   "Release held recipients: they are due now.",
		done:   "released", would: "released",
		example: `  holdfast queue release --domain example.com`,
	}
	queueBounce = operation{
		kind: pb.Operation_KIND_BOUNCE, short: "Return pending and held messages to their senders now",
		states: []pb.RecipientState{pb.RecipientState_RECIPIENT_STATE_PENDING, pb.RecipientState_RECIPIENT_STATE_HELD},
		long: `Return pending and held recipients to the sender, with a report that says that the
relay's administrator returned them. A message that is itself a report causes
none: delete it instead.`,
		done: "to be returned", would: "returned", late: "returned if that attempt fails",
		example: `  holdfast queue bounce --domain example.com --older 2d --reason 'server is gone'`,
	}
	queueDelete = operation{
		kind: pb.Operation_KIND_DELETE, short: "Delete messages; can be undone for a while",
		states: []pb.RecipientState{pb.RecipientState_RECIPIENT_STATE_PENDING, pb.RecipientState_RECIPIENT_STATE_HELD, pb.RecipientState_RECIPIENT_STATE_FROZEN},
		long: `Delete pending, held and frozen recipients. Nobody gets a report. For 10
minutes (settings: delete-grace) "holdfast queue undelete" brings them back; then
they are gone.`,
		done: "deleted", would: "deleted",
		next:    "`holdfast queue undelete` brings them back within delete-grace (`holdfast settings show`)",
		late:    "deleted if that attempt fails",
		example: `  holdfast queue delete --from spammer@example.net --reason spam`,
	}
	queueUndelete = operation{
		kind: pb.Operation_KIND_UNDELETE, short: "Bring deleted messages back",
		states: []pb.RecipientState{pb.RecipientState_RECIPIENT_STATE_DELETED},
		long: `Bring back recipients that were deleted a moment ago, as what they were.
"holdfast queue list --state deleted" shows them.`,
		done: "brought back", would: "brought back",
		example: `  holdfast queue undelete --all`,
	}
	queueRedirect = operation{
		kind: pb.Operation_KIND_REDIRECT, short: "Send waiting messages to another destination or address",
		states: []pb.RecipientState{pb.RecipientState_RECIPIENT_STATE_PENDING, pb.RecipientState_RECIPIENT_STATE_HELD, pb.RecipientState_RECIPIENT_STATE_FROZEN},
		long: `Redirect pending, held and frozen recipients: --destination-new sends them to
another destination under the same address, --rcpt-new to another address, whose
domain must be configured here. What is pending is tried there now; what is held
or frozen stays so.`,
		done: "redirected", would: "redirected", late: "redirected if that attempt fails",
		example: `  holdfast queue redirect --domain example.com --destination-new other`,
	}
	queueThaw = operation{
		kind: pb.Operation_KIND_THAW, short: "Try frozen reports again",
		states: []pb.RecipientState{pb.RecipientState_RECIPIENT_STATE_FROZEN},
		long: `Thaw frozen reports: they are pending again, and their retention begins anew. The
domain they go to must be configured here; "holdfast queue redirect --rcpt-new"
gives them another address first.`,
		done: "thawed", would: "thawed",
		example: `  holdfast queue thaw --all`,
	}
)

func queueOperations() []operation {
	return []operation{queueRetry, queueHold, queueRelease, queueBounce, queueDelete, queueUndelete, queueRedirect, queueThaw}
}

// operationOf is the command of an operation; only its word where this program
// knows none.
func operationOf(kind pb.Operation_Kind) operation {
	for _, op := range queueOperations() {
		if op.kind == kind {
			return op
		}
	}
	return operation{kind: kind, done: "changed"}
}

// word is the operation on the command line.
func (o operation) word() string {
	return strings.ToLower(strings.TrimPrefix(o.kind.String(), "KIND_"))
}

func (a *app) operationCommands() []*cobra.Command {
	var commands []*cobra.Command
	for _, op := range queueOperations() {
		commands = append(commands, a.operationCommand(op))
	}
	return commands
}
