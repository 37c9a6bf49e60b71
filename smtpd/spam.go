package smtpd

import (
	"bytes"
	"cmp"
	"strings"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// spamRules are the rules of the domains that a message goes to (R8), as they are
// when its content begins.
type spamRules map[string][]relay.SpamRule

func (s *session) spamRules(tx *transaction) spamRules {
	rules := spamRules{}
	for _, recipient := range tx.recipients {
		name := domainOf(recipient)
		if _, known := rules[name]; known {
			continue
		}
		config, _ := s.server.cfg.Directory.Domain(name)
		rules[name] = nil
		for _, text := range config.GetSpamIf() {
			rule, err := relay.ParseSpamRule(text)
			if err != nil {
				// Apply has taken it, so this can't be; marked wrongly, mail would be lost.
				s.log.Error("spam rule", "domain", name, "error", err)
				rules[name] = nil
				break
			}
			rules[name] = append(rules[name], rule)
		}
	}
	return rules
}

// domainOf is the relay domain that a recipient was taken by.
func domainOf(recipient *pb.Recipient) string {
	return cmp.Or(recipient.Domain, relay.DomainOf(recipient.Address))
}

// mark marks the recipients whose domain's rules all hold.
func (rules spamRules) mark(recipients []*pb.Recipient, headers watched) {
	for _, recipient := range recipients {
		all := rules[domainOf(recipient)]
		recipient.Spam = len(all) > 0
		for _, rule := range all {
			recipient.Spam = recipient.Spam && rule.Holds(headers.values[strings.ToLower(rule.Header)])
		}
	}
}

const (
	// maxWatched bounds how often a header is looked at, and so what a message of
	// nothing but such headers costs.
	maxWatched      = 100
	maxWatchedValue = 998
)

// watched collects the values of the headers that rules ask for, unfolded.
type watched struct {
	values  map[string][]string // by name in lower case
	current string              // the name that a folded line belongs to, "" for none
}

func (h *headerScan) watch(rules spamRules) {
	for _, all := range rules {
		for _, rule := range all {
			if h.watched.values == nil {
				h.watched.values = make(map[string][]string)
			}
			h.watched.values[strings.ToLower(rule.Header)] = nil
		}
	}
}

// begin takes a header's first line.
func (w *watched) begin(name, value []byte, isHeader bool) {
	w.current = ""
	if len(w.values) == 0 || !isHeader {
		return
	}
	lower := string(bytes.ToLower(bytes.TrimRight(name, " \t")))
	if values, asked := w.values[lower]; asked && len(values) < maxWatched {
		w.current = lower
		w.values[lower] = append(values, string(bytes.TrimSpace(value)))
	}
}

// fold takes a line that goes on with the header before.
func (w *watched) fold(line []byte) {
	if w.current == "" {
		return
	}
	values := w.values[w.current]
	last := &values[len(values)-1]
	if len(*last)+len(line) <= maxWatchedValue {
		*last += " " + string(bytes.TrimSpace(line))
	}
}
