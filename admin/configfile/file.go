package configfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// The kinds of things that a file sets.
const (
	Settings    = "settings"
	Policy      = "policy"
	Destination = "destination"
	Domain      = "domain"
)

func isKind(word string) bool {
	return slices.Contains([]string{Settings, Policy, Destination, Domain}, word)
}

// Revision is the state of a cluster's configuration that a file was made from.
type Revision struct {
	Index   uint64 // 0 where the file doesn't say
	Cluster string
}

func (r Revision) String() string { return strconv.FormatUint(r.Index, 10) + "@" + r.Cluster }

// Entry is a table of a file as the request to set what it describes.
type Entry[R any] struct {
	Name    string
	Request R
	// Bad: a value was of the wrong kind, so that the request isn't whole.
	Bad   bool
	line  int
	lines map[string]int
}

// Line is where the file sets a field of the request, or where the table begins.
func (e Entry[R]) Line(field string) int {
	if line, ok := e.lines[field]; ok {
		return line
	}
	return e.line
}

// Has reports whether the file sets a field.
func (e Entry[R]) Has(field string) bool {
	_, ok := e.lines[field]
	return ok
}

// File is what a file says. Tables are in its order.
type File struct {
	Revision     Revision
	Destinations []Entry[*pb.SetDestinationRequest]
	Domains      []DomainEntry
	Policies     []Entry[*pb.SetPolicyRequest]
	Settings     Entry[*pb.Settings]
	Problems     []Problem
}

// Read reads a file, and finds all that is wrong with it by itself.
func Read(text []byte) *File {
	s := scan(text)
	f := &File{Settings: Entry[*pb.Settings]{Request: &pb.Settings{}}}
	f.Revision = s.revision()
	for _, t := range s.order {
		switch t.kind {
		case Destination:
			f.Destinations = append(f.Destinations, entryOf(s, t, destinationKeys, &pb.SetDestinationRequest{Name: t.name}))
		case Domain:
			f.Domains = append(f.Domains, domainEntry(s, t))
		case Policy:
			f.Policies = append(f.Policies, entryOf(s, t, policyKeys, &pb.SetPolicyRequest{Name: t.name}))
		case Settings:
			f.Settings = entryOf(s, t, settingKeys, f.Settings.Request)
		}
	}
	f.Problems = s.problems
	return f
}

func (s *scanner) revision() (r Revision) {
	for _, name := range s.top.order {
		v := s.top.keys[name]
		if name != "revision" {
			s.problem(v.line, "unknown key %s: outside of a table there is only revision", bare(name))
			continue
		}
		given, err := text(v)
		index, cluster, found := strings.Cut(given, "@")
		if err == nil && found && cluster != "" {
			r.Cluster = cluster
			r.Index, err = strconv.ParseUint(index, 10, 63)
		}
		if err != nil || r.Index == 0 {
			s.problem(v.line, "revision: want it as `holdfast export` writes it, \"INDEX@CLUSTER\"; leave it out to compare nothing")
			return Revision{}
		}
	}
	return r
}

func entryOf[R, C any](s *scanner, t *table, keys []key[R, C], request R) Entry[R] {
	e := Entry[R]{Name: t.name, Request: request, line: t.line, lines: make(map[string]int)}
	for _, name := range t.order {
		v := t.keys[name]
		i := slices.IndexFunc(keys, func(k key[R, C]) bool { return k.name == name })
		if i < 0 {
			s.problem(v.line, "unknown key %s in [%s]: there are %s", bare(name), t.header(), namesOf(keys))
			continue
		}
		e.lines[name] = v.line
		if err := keys[i].take(request, v); err != nil {
			e.Bad = true
			s.problem(v.line, "%s: %v", name, err)
		}
	}
	return e
}

func namesOf[R, C any](keys []key[R, C]) string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	return strings.Join(names, ", ")
}

func (t *table) header() string { return headerOf(t.kind, t.name) }

// headerOf is what stands in the brackets of a table. A domain is always quoted:
// most have dots.
func headerOf(kind, name string) string {
	switch kind {
	case Settings:
		return kind
	case Domain:
		return kind + "." + quote(name)
	}
	return kind + "." + bare(name)
}

// Value is a key of a table as it is written.
type Value struct{ Key, Text string }

func valuesOf[R, C any](keys []key[R, C], config C) []Value {
	var all []Value
	for _, k := range keys {
		if text := k.show(config); text != "" {
			all = append(all, Value{k.name, text})
		}
	}
	return all
}

// OfDestination is a destination as a file has it, without its password.
func OfDestination(c *pb.DestinationConfig) []Value { return valuesOf(destinationKeys, c) }

// OfDomain is a domain as a file has it.
func OfDomain(c *pb.DomainConfig) []Value { return valuesOf(domainKeys, c) }

// OfPolicy is a policy as a file has it.
func OfPolicy(p relay.Policy) []Value { return valuesOf(policyKeys, p) }

// OfSettings are the settings as a file has them.
func OfSettings(s relay.Settings) []Value { return valuesOf(settingKeys, s) }

// Configuration is what a file is written from, each list in its order.
type Configuration struct {
	Revision     Revision // Index 0 for a file without one
	Settings     relay.Settings
	Policies     []relay.Policy
	Destinations []*pb.DestinationConfig
	Domains      []*pb.DomainConfig
	// The local parts that domains list, by domain.
	Recipients map[string][]string
}

const preface = `# The configuration of a Holdfast cluster, as written by "holdfast export".
#
# "holdfast apply -f FILE --dry-run" shows what this file would change, and
# "holdfast apply -f FILE" changes it, all at once or nothing. What the file
# doesn't mention stays, unless --prune removes it; a key that a table leaves out
# has its default; a setting, verify and recipients stay where they are left out.
# Durations: 30s, 15m, 2h, 4d.
`

// Write writes a file.
func Write(c Configuration) []byte {
	var b strings.Builder
	b.WriteString(preface)
	if c.Revision.Index != 0 {
		b.WriteString("\n# What was set when the file was made: what others changed since isn't overwritten.\n")
		fmt.Fprintf(&b, "revision = %s\n", quote(c.Revision.String()))
	}
	section(&b, "What holds for the whole cluster. Sizes are bytes.", Settings, "", OfSettings(c.Settings))
	comment := "Retry policies beside those that ship with the program."
	for _, p := range c.Policies {
		section(&b, comment, Policy, p.Name, OfPolicy(p))
		comment = ""
	}
	comment = "Next hops. A password for AUTH isn't written here; one that is set stays."
	for _, d := range c.Destinations {
		section(&b, comment, Destination, d.Name, OfDestination(d))
		comment = ""
	}
	comment = "Domains that mail is accepted for. 0 is no limit. A table without recipients leaves\n# the domain's list as it is, recipients = [] empties it."
	for _, d := range c.Domains {
		values := OfDomain(d)
		if listed := c.Recipients[d.Name]; len(listed) > 0 {
			values = append(values, OfRecipients(listed))
		}
		section(&b, comment, Domain, d.Name, values)
		comment = ""
	}
	return []byte(b.String())
}

func section(b *strings.Builder, comment, kind, name string, values []Value) {
	b.WriteByte('\n')
	if comment != "" {
		b.WriteString("# " + comment + "\n")
	}
	b.WriteString("[" + headerOf(kind, name) + "]\n")
	for _, v := range values {
		b.WriteString(v.Key + " = " + v.Text + "\n")
	}
}
