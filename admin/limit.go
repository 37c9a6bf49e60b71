package admin

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// What a window shows ends where the caller's domains do. These functions stand in
// front of the view's own, so that a service that reads through a window can't
// show more.

// recipient is one recipient of a message that exists for the caller.
type recipient struct {
	number uint32 // among all
	*pb.RecipientRecord
}

// read reads a message and those of its recipients that exist for the caller. A
// message of which none does doesn't exist either.
func (w window) read(id relay.MessageID) (*pb.MessageRecord, []recipient, error) {
	record, err := w.Message(id)
	if err != nil {
		return nil, nil, readError(err, id.String())
	}
	recipients, err := w.Recipients(id)
	if err == nil && len(recipients) == 0 && w.caller.limited() {
		err = fsm.ErrNotFound
	}
	if err != nil {
		return nil, nil, readError(err, id.String())
	}
	return record, recipients, nil
}

// Recipients are those of a message that exist for the caller.
func (w window) Recipients(id relay.MessageID) ([]recipient, error) {
	all, err := w.View.Recipients(id)
	var visible []recipient
	for number, r := range all {
		if !w.caller.sees(r.Domain) {
			continue
		}
		if err == nil {
			r, err = w.since(id, uint32(number), r)
		}
		visible = append(visible, recipient{uint32(number), r})
	}
	return visible, err
}

// since is a recipient without what it brought along from a domain that the caller
// doesn't see: its last failure, who held it, and the deaths of nodes over it tell of
// the address that it had there.
func (w window) since(id relay.MessageID, number uint32, r *pb.RecipientRecord) (*pb.RecipientRecord, error) {
	others := func(earlier *pb.Recipient) bool {
		return !w.caller.sees(cmp.Or(earlier.Domain, relay.DomainOf(earlier.Address)))
	}
	if r.LastError == nil && r.HeldBy == nil && r.Deaths == 0 || !slices.ContainsFunc(r.Earlier, others) {
		return r, nil
	}
	rows, err := w.History(id, fsm.Position{}, math.MaxInt)
	if err != nil {
		return r, err
	}
	// own reports whether the latest such row is the caller's to see.
	own := func(such func(*pb.HistoryRecord) bool) bool {
		for _, row := range slices.Backward(rows) {
			if !slices.Contains(row.Record.Recipients, number) || !such(row.Record) {
				continue
			}
			_, invisible := w.RecipientFor(w.caller.domains, id, number, row)
			if invisible != nil && !errors.Is(invisible, fsm.ErrNotFound) {
				err = invisible
			}
			return invisible == nil
		}
		return false
	}
	visible := proto.CloneOf(r)
	if !own(func(row *pb.HistoryRecord) bool { return proto.Equal(row.Failure, r.LastError) }) {
		visible.LastError = nil
	}
	if !own(func(row *pb.HistoryRecord) bool { return row.Kind == pb.HistoryRecord_KIND_HELD }) {
		visible.HeldBy = nil
	}
	if !own(func(row *pb.HistoryRecord) bool { return row.Kind == pb.HistoryRecord_KIND_IN_DOUBT }) {
		visible.Deaths = 0
	}
	return visible, err
}

// Queue is the view's, limited.
func (w window) Queue(f fsm.Filter, cursor []byte, limit int) ([]relay.MessageID, []byte, error) {
	f.Domains = w.caller.domains
	return w.View.Queue(f, cursor, limit)
}

// Log is the view's, limited.
func (w window) Log(f fsm.Filter, cursor []byte, limit int) ([]relay.MessageID, []byte, error) {
	f.Domains = w.caller.domains
	return w.View.Log(f, cursor, limit)
}

// Domains are the relay domains that exist for the caller, sorted by name.
func (w window) Domains() []*pb.DomainConfig {
	all := w.View.Domains()
	return slices.DeleteFunc(all, func(d *pb.DomainConfig) bool { return !w.caller.sees(d.Name) })
}

// Domain finds a relay domain by its name in lower case.
func (w window) Domain(name string) (*pb.DomainConfig, bool) {
	if !w.caller.sees(name) {
		return nil, false
	}
	return w.View.Domain(name)
}

// Destinations are those that exist for the caller: where mail of its domains goes.
func (w window) Destinations() []*pb.DestinationRecord {
	var visible []*pb.DestinationRecord
	for _, d := range w.View.Destinations() {
		if w.seesDestination(d.Config.GetName()) {
			visible = append(visible, w.discreet(d))
		}
	}
	return visible
}

// Destination is the view's, discreet.
func (w window) Destination(name string) (*pb.DestinationRecord, bool) {
	record, ok := w.View.Destination(name)
	return w.discreet(record), ok
}

// discreet leaves out of a destination's failure what it said to a message: that
// may be another's, and servers like to name the address that they refuse.
func (w window) discreet(d *pb.DestinationRecord) *pb.DestinationRecord {
	failure := d.GetHealth().GetFailure()
	if !w.caller.limited() || failure == nil || relay.Phase(failure.Phase).BeforeMail() {
		return d
	}
	d = proto.CloneOf(d)
	d.Health.Failure.Text = ""
	return d
}

func (w window) seesDestination(name string) bool {
	return !w.caller.limited() ||
		slices.ContainsFunc(w.Domains(), func(d *pb.DomainConfig) bool { return d.Destination == name })
}

// named finds a destination for a caller who names it. Where a recipient's mail
// goes, it may see whatever the destination's name.
func (w window) named(name string) (*pb.DestinationRecord, bool) {
	if !w.seesDestination(name) {
		return nil, false
	}
	return w.Destination(name)
}

// DomainCounter counts the recipients of a domain, none of others'.
func (w window) DomainCounter(name string) *pb.CounterRecord {
	if !w.caller.sees(name) {
		return &pb.CounterRecord{}
	}
	return w.View.DomainCounter(name)
}

// ListedRecipients are the view's of the caller's domains.
func (w window) ListedRecipients(domain, behind string, limit int) ([]fsm.ListedRecipient, error) {
	if !w.caller.sees(domain) {
		return nil, nil
	}
	return w.View.ListedRecipients(domain, behind, limit)
}

// VerifiedRecipients are the view's of the caller's domains.
func (w window) VerifiedRecipients(domain, behind string, limit int, now time.Time) ([]fsm.VerifiedRecipient, error) {
	if !w.caller.sees(domain) {
		return nil, nil
	}
	return w.View.VerifiedRecipients(domain, behind, limit, now)
}

// CountedDomains names the caller's domains that have a counter, sorted.
func (w window) CountedDomains() []string {
	return slices.DeleteFunc(w.View.CountedDomains(), func(name string) bool { return !w.caller.sees(name) })
}

// Counters sums up the caller's domains.
func (w window) Counters() *pb.CounterRecord {
	if !w.caller.limited() {
		return w.View.Counters()
	}
	total := &pb.CounterRecord{}
	for _, domain := range w.caller.domains {
		c := w.View.DomainCounter(domain)
		total.Pending += c.Pending
		total.Held += c.Held
		total.Frozen += c.Frozen
		total.Delivered += c.Delivered
		total.Ended += c.Ended
		total.InDoubt += c.InDoubt
	}
	return total
}

// rowAddresses are a history row's recipients that existed for the caller after
// it, by the addresses of then. To a limited caller a recipient that came from
// elsewhere, or has gone elsewhere, shows no more than its time here.
func (w window) rowAddresses(id relay.MessageID, row fsm.HistoryRow) ([]string, error) {
	var addresses []string
	for _, number := range row.Record.Recipients {
		r, err := w.rowRecipient(id, number, row)
		if errors.Is(err, fsm.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, readError(err, id.String())
		}
		addresses = append(addresses, r.Recipient.GetAddress())
	}
	return addresses, nil
}

func (w window) rowRecipient(id relay.MessageID, number uint32, row fsm.HistoryRow) (*pb.RecipientRecord, error) {
	if w.caller.limited() {
		if row.OfEarlierAddress() {
			return nil, fsm.ErrNotFound
		}
		return w.RecipientFor(w.caller.domains, id, number, row)
	}
	r, err := w.Recipient(id, number)
	if err != nil || len(r.Earlier) == 0 {
		return r, err // it has had this address all the time
	}
	then, err := w.RecipientFor(nil, id, number, row)
	if errors.Is(err, fsm.ErrNotFound) {
		return r, nil // what was then is beyond the log's retention
	}
	return then, err
}
