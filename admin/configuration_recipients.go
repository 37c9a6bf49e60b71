package admin

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/admin/configfile"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// The key of a domain's list in a difference.
const recipientsKey = "recipients"

// listed are the local parts that a domain lists, sorted.
func (w window) listed(domain string) ([]string, error) {
	rows, err := w.ListedRecipients(domain, "", fsm.MaxListed)
	if err != nil {
		return nil, readError(err, "the recipients of "+domain)
	}
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = row.LocalPart
	}
	return names, nil
}

// allListed are the lists of all domains that have one.
func (w window) allListed() (map[string][]string, error) {
	all := make(map[string][]string)
	for _, d := range w.Domains() {
		if w.DomainCounter(d.Name).GetListed() == 0 {
			continue
		}
		var err error
		if all[d.Name], err = w.listed(d.Name); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// planRecipients notes how the file changes the list of a domain, and returns how
// that is shown; both are "" where it doesn't.
func (p *plan) planRecipients(domain string, entry configfile.DomainEntry) (old, now string) {
	if !entry.Lists {
		return "", ""
	}
	wanted := p.wantedRecipients(domain, entry)
	present, err := p.listed(domain)
	if err != nil {
		p.err = err
		return "", ""
	}
	change := &pb.RecipientsChanged{Domain: domain}
	for _, name := range present {
		if !wanted[name] {
			change.Removed = append(change.Removed, name)
		}
		delete(wanted, name)
	}
	change.Added = slices.Sorted(maps.Keys(wanted))
	if len(change.Added) == 0 && len(change.Removed) == 0 {
		return "", ""
	}
	p.change.Recipients = append(p.change.Recipients, change)
	if len(present) > 0 {
		old = listedText(len(present), nil, nil)
	}
	return old, listedText(len(present)+len(change.Added)-len(change.Removed), change.Added, change.Removed)
}

// wantedRecipients is a domain's list as the file has it.
func (p *plan) wantedRecipients(domain string, entry configfile.DomainEntry) map[string]bool {
	wanted := make(map[string]bool, len(entry.Recipients))
	if domain == relay.DefaultRoute && len(entry.Recipients) > 0 {
		p.problem(invalid(recipientsKey, "domain %s is the way to all others, and has no recipients of its own", domain), entry.Line)
		return wanted
	}
	for _, item := range entry.Recipients {
		name, err := relay.ListedLocalPart(domain, item.Text)
		if err != nil {
			p.problem(invalid(recipientsKey, "recipients: %v", err), func(string) int { return item.Line })
			continue
		}
		wanted[name] = true
	}
	if n := len(wanted); n > fsm.MaxListed {
		p.problem(invalid(recipientsKey, "domain %s would have %d listed recipients: want %d at most", domain, n, fsm.MaxListed), entry.Line)
	}
	return wanted
}

// mostNamed is how many names of a list a difference shows.
const mostNamed = 5

// listedText shows a list by its length, with a few names of what changes.
func listedText(n int, added, removed []string) string {
	var parts []string
	for _, change := range []struct {
		word  string
		names []string
	}{{"added", added}, {"removed", removed}} {
		if len(change.names) == 0 {
			continue
		}
		text := change.word + " " + strings.Join(change.names[:min(mostNamed, len(change.names))], ", ")
		if more := len(change.names) - mostNamed; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		parts = append(parts, text)
	}
	text := fmt.Sprintf("%d listed", n)
	if len(parts) > 0 {
		text += " (" + strings.Join(parts, "; ") + ")"
	}
	return text
}

// sizeOfLists is how many records a change touches in lists of recipients, those of
// domains that go included.
func (p *plan) sizeOfLists() int {
	n := 0
	for _, list := range p.change.Recipients {
		n += 1 + len(list.Added) + len(list.Removed)
	}
	for _, name := range p.change.RemovedDomains {
		n += int(p.DomainCounter(name).GetListed())
	}
	return n
}

// listConflict says who changed a list that a difference is about since an index, ""
// if nobody did.
func (p *plan) listConflict(d *pb.ConfigurationDifference, index uint64) string {
	touched := slices.ContainsFunc(d.Values, func(v *pb.ConfigurationDifference_Value) bool { return v.Key == recipientsKey })
	if d.Kind != configfile.Domain || !touched || p.DomainCounter(d.Name).GetListedIndex() <= index {
		return ""
	}
	return fmt.Sprintf("the recipients of domain %s were changed %s since the file was made", d.Name, p.who(recipientsKey, d.Name))
}
