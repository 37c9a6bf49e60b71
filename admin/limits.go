package admin

import (
	"fmt"
	"strings"
	"time"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

const (
	maxSpamRetention = 366 * 24 * time.Hour
	// A domain's limits are warned about from this percentage on.
	limitWarning = 80
	// Marked mail that is deferred for so long is not greylisted.
	spamWarning = 24 * time.Hour
)

// changeLimits takes over what a request says of a domain's limits and spam rules.
func changeLimits(domain *pb.DomainConfig, req *pb.SetDomainRequest) error {
	if len(req.SpamIf) > 0 {
		rules, err := spamRules(req.SpamIf)
		if err != nil {
			return err
		}
		domain.SpamIf = rules
	}
	if req.SpamRetention != nil {
		d := req.SpamRetention.AsDuration()
		if d < time.Second || d > maxSpamRetention {
			return invalid("spam_retention", "spam-retention %s: want %s to %s",
				relay.FormatDuration(d), relay.FormatDuration(time.Second), relay.FormatDuration(maxSpamRetention))
		}
		domain.SpamRetention = int64(d)
	}
	if req.MaxMessages != nil {
		domain.MaxMessages = *req.MaxMessages
	}
	if req.MaxBytes != nil {
		domain.MaxBytes = *req.MaxBytes
	}
	return nil
}

// spamRules are the rules in the form in which they are kept.
func spamRules(given []string) ([]string, error) {
	if len(given) == 1 && given[0] == "" {
		return nil, nil
	}
	if len(given) > relay.MaxSpamRules {
		return nil, invalid("spam_if", "%d spam rules: want %d at most", len(given), relay.MaxSpamRules)
	}
	var rules []string
	for _, text := range given {
		rule, err := relay.ParseSpamRule(text)
		if err != nil {
			return nil, invalid("spam_if", "%v", err)
		}
		rules = append(rules, rule.String())
	}
	return rules, nil
}

// warnOfLimits is about domains whose limits are near or reached, and about
// destinations that keep deferring marked mail (R8).
func (w window) warnOfLimits(out *warner) {
	for _, domain := range w.Domains() {
		counter := w.DomainCounter(domain.Name)
		if text, full := limitText(domain, counter); full {
			out.warn("domain-full", domain.Name, "domain %s is at its limit, its mail is answered 452: %s", domain.Name, text)
		} else if text != "" {
			out.warn("domain-filling", domain.Name, "domain %s is near its limit: %s", domain.Name, text)
		}
		if len(domain.SpamIf) == 0 {
			continue
		}
		old, err := w.Oldest(domain.Name, fsm.ClassSpam, w.now.Add(-spamWarning), 1)
		if err == nil && len(old) > 0 {
			out.warn("spam-deferred", domain.Destination,
				"destination %s defers mail for %s that is marked as spam, since %s: a 5xx would end it at once",
				domain.Destination, domain.Name, old[0].AcceptedAt.UTC().Format(time.RFC3339))
		}
	}
}

// limitText says how near a domain is to its limits, "" where there is nothing
// to say.
func limitText(domain *pb.DomainConfig, c *pb.CounterRecord) (text string, full bool) {
	var parts []string
	check := func(what string, held, limit uint64) {
		if limit == 0 || float64(held) < float64(limit)*limitWarning/100 {
			return
		}
		parts = append(parts, fmt.Sprintf("%d of %d %s held", held, limit, what))
		full = full || held >= limit
	}
	check("messages", c.GetMessages(), domain.MaxMessages)
	check("bytes", c.GetBytes(), domain.MaxBytes)
	return strings.Join(parts, ", "), full
}
