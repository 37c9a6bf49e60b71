package architecture

import (
	"fmt"
	"slices"
	"strings"
)

// mayImport is the layout: what each package may import of this module. A
// package that isn't listed goes by the nearest listed folder above it.
var mayImport = map[string]struct {
	ours []string
	why  string
}{
	"relay": {nil,
		"relay is the vocabulary that all share, so it depends on nothing"},
	"proto": {nil,
		"proto is what the .proto files say"},
	"pki": {nil,
		"pki says who is at the other end of a connection, and all that ask need it"},
	"fsm": {[]string{"relay", "proto"},
		"the state is folded from the log alone: it knows no network, no session and no attempt"},
	"cluster": {[]string{"fsm", "proto", "pki"},
		"cluster moves entries and applies them, whatever is in them"},
	"password": {nil,
		"a password is hashed where it is set and compared where it is shown"},
	"loglimit": {nil,
		"loglimit counts lines, whatever they are about"},
	"netlimit": {[]string{"loglimit"},
		"netlimit counts connections, whatever comes over them"},
	"smtpd": {[]string{"relay", "proto", "password", "loglimit", "netlimit"},
		"the front door knows no raft: it declares the small interface that it needs and node fills it in"},
	"smtpd/verify": {[]string{"relay", "proto", "netlimit"},
		"what RCPT is answered is decided from the state and the owner's word: the call-out is the delivery's"},
	"delivery": {[]string{"relay", "proto", "fsm", "delivery/smtpout", "delivery/dsn"},
		"the scheduler knows no raft: it declares the small interface that it needs and node fills it in"},
	"delivery/smtpout": {[]string{"relay"},
		"the SMTP client is usable without a cluster"},
	"delivery/dsn": {[]string{"relay"},
		"a report is rendered from its inputs alone"},
	"admin/configfile": {[]string{"relay", "proto", "fsm"},
		"a file is read and written without a node, a cluster or a caller"},
	"admin": {[]string{"relay", "proto", "fsm", "cluster", "password", "pki", "loglimit", "admin/configfile"},
		"admin asks the state and proposes events; mail doesn't pass through it"},
	"upkeep": {[]string{"relay", "proto", "fsm"},
		"upkeep reads the state and proposes events: which node leads, node tells it"},
	"node": {[]string{"relay", "proto", "fsm", "cluster", "smtpd", "smtpd/verify",
		"delivery", "delivery/smtpout", "delivery/dsn", "admin", "upkeep", "pki", "loglimit", "netlimit"},
		"node puts the parts together and no part of the product needs a test's code"},
	// Beside node, the commands are a gRPC client, and `dev` has the sink for
	// its demo mail server. Certificates are made without a node, and a file that a
	// node exported is read without one.
	"cmd": {[]string{"node", "relay", "proto", "pki", "admin/configfile", "test/sink"},
		"a command is arguments, signals, Run and an exit code; what it does over gRPC is in proto"},
}

// raftUsers may import raft: smtpd and delivery must not come to know it, not
// even without the cluster package.
var raftUsers = []string{"fsm", "cluster", "node", "test"}

func importViolations(files []sourceFile) []string {
	var found []string
	for _, f := range files {
		if f.test || strings.HasPrefix(f.path, "test/") {
			continue
		}
		for _, imported := range f.imports() {
			if why := forbiddenImport(f.dir(), imported); why != "" {
				found = append(found, fmt.Sprintf("%s imports %s: %s", f.path, imported, why))
			}
		}
	}
	return found
}

// forbiddenImport says why a folder may not import a path, "" where it may.
func forbiddenImport(dir, imported string) string {
	if strings.HasPrefix(imported, "github.com/hashicorp/raft") && !slices.ContainsFunc(raftUsers, holds(dir)) {
		return "only " + strings.Join(raftUsers, ", ") + " know raft"
	}
	target, ours := strings.CutPrefix(imported, module+"/")
	if !ours {
		return ""
	}
	unit := unitOf(dir)
	if unit == "" {
		return dir + " isn't in the layout: add it to mayImport with what it may import and why"
	}
	rule := mayImport[unit]
	to := unitOf(target)
	if to == "" {
		to = target
	}
	if to == unit || slices.Contains(rule.ours, to) {
		return ""
	}
	return rule.why
}

// unitOf is the listed folder that a folder belongs to.
func unitOf(dir string) string {
	for {
		if _, ok := mayImport[dir]; ok {
			return dir
		}
		cut := strings.LastIndexByte(dir, '/')
		if cut < 0 {
			return ""
		}
		dir = dir[:cut]
	}
}

// holds matches the folders that dir is, or lies in.
func holds(dir string) func(string) bool {
	return func(folder string) bool {
		return dir == folder || strings.HasPrefix(dir, folder+"/")
	}
}
