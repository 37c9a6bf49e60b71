package admin

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Limits of a page of messages or of configuration.
const (
	defaultPage = 100
	maxPage     = 1000
	// A page ends early at this size, well below the 4 MiB that gRPC clients take.
	maxPageBytes = 1 << 20
)

func pageSize(n uint32) (int, error) {
	switch {
	case n == 0:
		return defaultPage, nil
	case n > maxPage:
		return 0, invalid("page_size", "page_size %d: want 1 to %d", n, maxPage)
	}
	return int(n), nil
}

// toFilter checks a filter and puts it into the state's words.
func toFilter(f *pb.MessageFilter) (fsm.Filter, error) {
	filter := fsm.Filter{
		Domain:      strings.ToLower(f.GetDomain()),
		Destination: f.GetDestination(),
		From:        lowerDomain(f.GetFrom()),
		To:          lowerDomain(f.GetTo()),
		States:      f.GetStates(),
		Since:       timeOf(f.GetSince()),
		Until:       timeOf(f.GetUntil()),
	}
	if filter.From != "" && filter.From != "<>" && relay.DomainOf(filter.From) == "" {
		return filter, invalid("filter.from", "from %q: want an address, \"*@domain\" or \"<>\"", f.GetFrom())
	}
	if filter.To != "" && relay.DomainOf(filter.To) == "" {
		return filter, invalid("filter.to", "to %q: want an address or \"*@domain\"", f.GetTo())
	}
	for _, state := range filter.States {
		if _, known := pb.RecipientState_name[int32(state)]; !known || state == pb.RecipientState_RECIPIENT_STATE_UNSPECIFIED {
			return filter, invalid("filter.states", "state %d is unknown", state)
		}
	}
	if !filter.Since.IsZero() && !filter.Until.IsZero() && !filter.Since.Before(filter.Until) {
		return filter, invalid("filter.until", "until must be later than since")
	}
	return filter, nil
}

// queueFilter is a filter for a listing of the queue: its states are those that the
// queue has, or it is for deleted recipients alone, which can come back, where the
// listing is able to show those.
func queueFilter(f *pb.MessageFilter, deletedToo bool) (fsm.Filter, error) {
	filter, err := toFilter(f)
	if err != nil {
		return filter, err
	}
	const removed = pb.RecipientState_RECIPIENT_STATE_DELETED
	for _, state := range filter.States {
		switch {
		case slices.Contains(queueStates, state), state == removed && deletedToo && len(filter.States) == 1:
		case state == removed && deletedToo:
			return filter, invalid("filter.states", "deleted recipients are listed on their own: give no other state with it, or search in `holdfast log search`")
		case state == removed:
			return filter, invalid("filter.states", "deleted recipients aren't counted here: `holdfast queue list --state deleted` shows those that can come back, `holdfast log search --state deleted` has them all")
		default:
			return filter, invalid("filter.states", "no recipient of the queue is %s, it has those that are %s: `holdfast log search --state %s` has them",
				fsm.StateWord(state), stateList(queueStates), fsm.StateWord(state))
		}
	}
	return filter, nil
}

var queueStates = []pb.RecipientState{
	pb.RecipientState_RECIPIENT_STATE_PENDING, pb.RecipientState_RECIPIENT_STATE_HELD, pb.RecipientState_RECIPIENT_STATE_FROZEN,
}

// bulkFilter is a filter for an operation: its states are among those that the
// operation is for, all of them where none is given.
func bulkFilter(f *pb.MessageFilter, kind pb.Operation_Kind) (fsm.Filter, error) {
	filter, err := toFilter(f)
	if err != nil {
		return filter, err
	}
	possible := fsm.OperableStates(kind)
	for _, state := range filter.States {
		if !slices.Contains(possible, state) {
			return filter, invalid("filter.states", "%s is for recipients that are %s, not for %s ones",
				fsm.OperationWord(kind), stateList(possible), fsm.StateWord(state))
		}
	}
	if len(filter.States) == 0 {
		filter.States = possible
	}
	return filter, nil
}

func stateList(states []pb.RecipientState) string {
	words := make([]string, len(states))
	for i, state := range states {
		words[i] = fsm.StateWord(state)
	}
	return strings.Join(words, " or ")
}

func isEmpty(f fsm.Filter) bool {
	return f.Domain == "" && f.Destination == "" && f.From == "" && f.To == "" &&
		len(f.States) == 0 && f.Since.IsZero() && f.Until.IsZero()
}

// lowerDomain folds the part of an address that is the same in any case.
func lowerDomain(address string) string {
	local, domain, err := relay.SplitAddress(address)
	if err != nil {
		return address
	}
	return local + "@" + domain
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// timestamp is a time of the state, nil where there is none.
func timestamp(nanoseconds int64) *timestamppb.Timestamp {
	if nanoseconds == 0 {
		return nil
	}
	return timestamppb.New(time.Unix(0, nanoseconds))
}
