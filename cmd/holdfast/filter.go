package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "holdfast/proto/holdfast/v1"
)

// States as --state takes them in a listing of the queue, in a count of it, and where
// all messages are searched.
const (
	listedStates = `pending, held and frozen, or deleted alone for what
"queue undelete" can still bring back`
	countedStates  = "pending, held and frozen"
	searchedStates = `pending, held, delivered, bounced, dropped, frozen,
deleted, or failed for all that is neither in the queue nor delivered`
)

// filterHelp is about the filters of a command, given the states that it takes.
func filterHelp(states string) string {
	return `
Filters: --from and --to take an address or *@domain, --from also <> for the
null sender. --state takes ` + states + `.
--since and --until take a time (2006-01-02T15:04:05Z, 2006-01-02) or how long
ago (2h), --older how long ago at least; they go by the time of acceptance. Times
without a zone are UTC.`
}

// filterFlags pick messages.
type filterFlags struct {
	domain, destination, from, to string
	states                        []string
	since, until                  string
	older                         durationFlag
	limit                         int
	flags                         *pflag.FlagSet
}

func (f *filterFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.flags = flags
	flags.StringVar(&f.domain, "domain", "", "recipients of this domain")
	flags.StringVar(&f.destination, "destination", "", "recipients that go to this destination")
	flags.StringVar(&f.from, "from", "", "sender")
	flags.StringVar(&f.to, "to", "", "recipient")
	flags.StringSliceVar(&f.states, "state", nil, "recipients in this state, several are allowed")
	flags.StringVar(&f.since, "since", "", "accepted at this time or later")
	flags.StringVar(&f.until, "until", "", "accepted before this time")
	flags.Var(&f.older, "older", "accepted at least so long ago")
	flags.IntVar(&f.limit, "limit", 0, "messages at most (default all)")
}

// filter is nil where no flag picks anything.
func (f *filterFlags) filter(a *app) (*pb.MessageFilter, error) {
	if f.limit < 0 || f.limit == 0 && f.flags.Changed("limit") {
		return nil, usage("--limit %d: want 1 or more", f.limit)
	}
	out := &pb.MessageFilter{Domain: f.domain, Destination: f.destination, From: f.from, To: f.to}
	for _, word := range f.states {
		states, err := parseState(word)
		if err != nil {
			return nil, err
		}
		out.States = append(out.States, states...)
	}
	if f.since != "" {
		t, err := a.parseTime(f.since)
		if err != nil {
			return nil, usage("--since: %v", err)
		}
		out.Since = timestamppb.New(t)
	}
	if f.until != "" {
		t, err := a.parseTime(f.until)
		if err != nil {
			return nil, usage("--until: %v", err)
		}
		out.Until = timestamppb.New(t)
	}
	if f.older.value != 0 {
		if out.Until != nil {
			return nil, usage("--until and --older say the same: give one of them")
		}
		out.Until = timestamppb.New(a.now().Add(-f.older.value))
	}
	if f.domain == "" && f.destination == "" && f.from == "" && f.to == "" && len(out.States) == 0 && out.Since == nil && out.Until == nil {
		return nil, nil
	}
	return out, nil
}

func parseState(word string) ([]pb.RecipientState, error) {
	if word == "failed" {
		return []pb.RecipientState{
			pb.RecipientState_RECIPIENT_STATE_BOUNCED, pb.RecipientState_RECIPIENT_STATE_DROPPED,
			pb.RecipientState_RECIPIENT_STATE_FROZEN, pb.RecipientState_RECIPIENT_STATE_DELETED,
		}, nil
	}
	n, ok := pb.RecipientState_value["RECIPIENT_STATE_"+strings.ToUpper(word)]
	if !ok || n == 0 {
		return nil, usage("state %q: there are pending, held, delivered, bounced, dropped, frozen, deleted, and failed for bounced, dropped, frozen and deleted", word)
	}
	return []pb.RecipientState{pb.RecipientState(n)}, nil
}

// page is what a listing call returns, whatever it lists.
type page[T any] struct {
	items []T
	next  string
	stale bool
}

// eachPage calls show with page after page until limit items (0: all) were
// shown, and says where a limit cut the list short.
func eachPage[T any](a *app, limit int, fetch func(size uint32, token string) (page[T], error), show func([]T) error) error {
	const most = 500
	shown, warned := 0, false
	for token := ""; ; {
		size := most
		if limit > 0 {
			size = min(most, limit-shown)
		}
		p, err := fetch(uint32(min(size, math.MaxInt32)), token)
		if err != nil {
			return err
		}
		if p.stale && !warned {
			a.warnStale(true)
			warned = true
		}
		if err := show(p.items); err != nil {
			return err
		}
		shown += len(p.items)
		if token = p.next; token == "" {
			return nil
		}
		if limit > 0 && shown >= limit {
			return sayWhatFollows(a, limit, token, fetch)
		}
	}
}

// sayWhatFollows looks for what a limit left out. A page may be empty where much was
// read in vain, and then nobody knows yet.
func sayWhatFollows[T any](a *app, limit int, token string, fetch func(size uint32, token string) (page[T], error)) error {
	next, err := fetch(1, token)
	switch {
	case err != nil:
		return err
	case len(next.items) > 0:
		fmt.Fprintf(a.err, "holdfast: there are more; --limit %d ends the list here\n", limit)
	case next.next != "":
		fmt.Fprintf(a.err, "holdfast: there may be more; --limit %d ends the list here\n", limit)
	}
	return nil
}
