package fsm

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// offer gives ids in their order, or against it.
type offer interface {
	// seek finds the first id from this one on, this one included.
	seek(relay.MessageID) (relay.MessageID, bool)
	close() error
}

// offer is what the indexes know of a filter's messages: all that match are
// among them. Indexes are intersected, so that the smallest of them decides how
// much is read.
func (v *View) offer(f Filter) (intersection, error) {
	var all intersection
	err := v.eachIndex(f, func(prefixes ...[]byte) error {
		var alternatives union
		for _, prefix := range prefixes {
			o, err := v.offerOf(prefix, f.OldestFirst)
			if err != nil {
				return errors.Join(err, alternatives.close())
			}
			alternatives.offers = append(alternatives.offers, o)
		}
		alternatives.ascending = f.OldestFirst
		all.offers = append(all.offers, alternatives)
		return nil
	})
	if err != nil {
		return all, errors.Join(err, all.close())
	}
	return all, nil
}

// eachIndex calls each with the indexes that a filter names; of several prefixes
// in one call a message is in one at least.
func (v *View) eachIndex(f Filter, each func(prefixes ...[]byte) error) error {
	var calls [][][]byte
	add := func(prefixes ...[]byte) { calls = append(calls, prefixes) }
	if f.HeaderMessageID != "" {
		add(indexPrefix(indexHeader, headerTerm(f.HeaderMessageID)))
	}
	domain, isDomain := strings.CutPrefix(f.To, anyoneAt)
	switch {
	case isDomain:
		add(indexPrefix(indexDomain, domain), indexPrefix(indexTo, f.To))
	case f.To != "":
		add(indexPrefix(indexTo, f.To))
	}
	switch {
	case f.From == "<>":
		add(indexPrefix(indexFrom, ""))
	case f.From != "" && !strings.HasPrefix(f.From, anyoneAt):
		add(indexPrefix(indexFrom, f.From))
	}
	if f.Domain != "" && (f.To == "" || isDomain && domain != f.Domain) {
		add(indexPrefix(indexDomain, f.Domain))
	}
	if len(f.States) > 0 && !slices.ContainsFunc(f.States, func(s pb.RecipientState) bool { return !slices.Contains(rareStates, s) }) {
		var prefixes [][]byte
		for _, state := range f.States {
			prefixes = append(prefixes, statePrefix(state))
		}
		add(prefixes...)
	}
	if f.Domains != nil {
		var prefixes [][]byte
		for _, domain := range f.Domains {
			prefixes = append(prefixes, indexPrefix(indexDomain, domain))
		}
		// The last, which decides the id that a page ends with: so that is one of
		// these domains, and says nothing of others.
		add(prefixes...)
	}
	if len(calls) == 0 {
		add([]byte{byte(famMessages)})
	}
	for _, prefixes := range calls {
		if err := each(prefixes...); err != nil {
			return err
		}
	}
	return nil
}

// prefixed are the ids at the ends of the keys with a prefix.
type prefixed struct {
	iter      *pebble.Iterator
	prefix    []byte
	ascending bool
}

func (v *View) offerOf(prefix []byte, ascending bool) (offer, error) {
	iter, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	return prefixed{iter: iter, prefix: prefix, ascending: ascending}, err
}

func (p prefixed) seek(id relay.MessageID) (relay.MessageID, bool) {
	key := append(slices.Clone(p.prefix), id[:]...)
	var valid bool
	if p.ascending {
		valid = p.iter.SeekGE(key)
	} else {
		valid = p.iter.SeekLT(append(key, 0)) // the key itself included
	}
	if !valid {
		return relay.MessageID{}, false
	}
	return relay.MessageID(p.iter.Key()[len(p.prefix):]), true
}

func (p prefixed) close() error { return p.iter.Close() }

// union offers what any of its offers has.
type union struct {
	offers    []offer
	ascending bool
}

func (u union) seek(id relay.MessageID) (nearest relay.MessageID, found bool) {
	for _, o := range u.offers {
		offered, ok := o.seek(id)
		if ok && (!found || bytes.Compare(offered[:], nearest[:]) < 0 == u.ascending) {
			nearest, found = offered, true
		}
	}
	return nearest, found
}

func (u union) close() error { return closeAll(u.offers) }

// intersection offers what all of its offers have.
type intersection struct{ offers []offer }

// step asks each offer once. Where they disagree, nothing before the id that it
// returns is in all of them. Two long indexes may have nothing in common, so the
// caller counts the steps.
func (n intersection) step(id relay.MessageID) (furthest relay.MessageID, agreed, more bool) {
	agreed = true
	for i, o := range n.offers {
		offered, ok := o.seek(id)
		if !ok {
			return id, false, false
		}
		agreed = agreed && (i == 0 || offered == id)
		id = offered
	}
	return id, agreed, true
}

func (n intersection) close() error { return closeAll(n.offers) }

func closeAll(offers []offer) error {
	var errs []error
	for _, o := range offers {
		errs = append(errs, o.close())
	}
	return errors.Join(errs...)
}

var (
	lowestID  relay.MessageID
	highestID = relay.MessageID(bytes.Repeat([]byte{0xff}, len(relay.MessageID{})))
)

// idRange is the first and the last id that a listing may come to.
func (f Filter) idRange() (first, last relay.MessageID) {
	first, last = lowestID, highestID
	if !f.Since.IsZero() {
		first = relay.MessageID(relay.LowestMessageID(f.Since.Add(-idSlack)))
	}
	if !f.Until.IsZero() {
		last = relay.MessageID(relay.LowestMessageID(f.Until.Add(idSlack)))
	}
	if !f.OldestFirst {
		first, last = last, first
	}
	return first, last
}

// passed reports whether an id lies behind the last one.
func (f Filter) passed(id, last relay.MessageID) bool {
	if f.OldestFirst {
		return bytes.Compare(id[:], last[:]) > 0
	}
	return bytes.Compare(id[:], last[:]) < 0
}

// behind is the next id there can be.
func (f Filter) behind(id relay.MessageID) (relay.MessageID, bool) {
	for i := len(id) - 1; i >= 0; i-- {
		if f.OldestFirst {
			if id[i]++; id[i] != 0 {
				return id, true
			}
			continue
		}
		if id[i]--; id[i] != 0xff {
			return id, true
		}
	}
	return id, false
}
