package admin

import "holdfast/relay"

// planPostmaster wants the postmaster's domain among those that there will be.
// Applying the event refuses any other, whether the file names the postmaster or not.
func (p *plan) planPostmaster() {
	const key = "postmaster"
	entry := p.file.Settings
	postmaster, line := p.Settings().Postmaster, noLine
	if entry.Has(key) {
		if entry.Request.Postmaster == nil || settingAlone(entry.Request, key) != nil {
			return // it is wrong by itself: that is said
		}
		postmaster, line = entry.Request.GetPostmaster(), entry.Line
	}
	domain := relay.RelayDomain(postmaster)
	if postmaster == "" || p.domains[domain] {
		return
	}
	if _, present := p.Domain(domain); present {
		p.problem(invalid(key, "domain %s has the postmaster, %s, and --prune would remove it: add it to the file, or set another postmaster, or \"\", under [settings]", domain, postmaster), line)
		return
	}
	p.problem(invalid(key, "postmaster: domain %s is neither configured here nor in the file: add it to the file", domain), line)
}
