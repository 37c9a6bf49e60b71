package operate_test

import (
	"fmt"
	"os/user"
	"regexp"
	"strings"

	"holdfast/test/harness"
)

// names are what differs from run to run, and what the page has in its place.
type names struct {
	pairs    []pair
	messages int // ids seen so far
}

// pair is a word as it is, and as the page shows it.
type pair struct{ real, shown string }

func newNames(nodes []*harness.Node, servers map[string]string) *names {
	n := &names{pairs: []pair{{servers["office"], "192.0.2.25:25"}, {servers["new"], "192.0.2.26:25"}}}
	for i, node := range nodes {
		n.pairs = append(n.pairs,
			pair{node.SMTP, fmt.Sprintf("10.0.0.%d:25", i+1)}, pair{node.Admin, fmt.Sprintf("10.0.0.%d:7500", i+1)},
			pair{node.HTTP, fmt.Sprintf("10.0.0.%d:7600", i+1)}, pair{node.Hostname(), "mx-" + node.Name + ".example.net"})
	}
	if me, err := user.Current(); err == nil {
		n.pairs = append(n.pairs, pair{"local user " + me.Username, "local user operator"})
	}
	return n
}

// real is a command of the page with the words of this run.
func (n *names) real(command string) string {
	for _, p := range n.pairs {
		if !strings.HasPrefix(p.real, "local user") {
			command = strings.ReplaceAll(command, p.shown, p.real)
		}
	}
	return command
}

var ulid = regexp.MustCompile(`\b01[0-9A-HJKMNP-TV-Z]{24}\b`)

// patterns are of what no two runs have in common; times count for less than
// that they are there.
var patterns = []struct {
	of    *regexp.Regexp
	shown string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`), "2026-02-03 03:12:00Z"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "2026-02-03T03:12:00Z"},
	{regexp.MustCompile(`\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000`), "Tue, 03 Feb 2026 03:12:00 +0000"},
	{regexp.MustCompile(`\((now|(\d+m)?(\d+s)? ago)\)`), "(5s ago)"},
	{regexp.MustCompile(`\(in (\d+m)?(\d+s)?\)`), "(in 5s)"},
	{regexp.MustCompile(`in (5d|4d23h)\b`), "in 4d23h"},
	{regexp.MustCompile(`\b(0s|\d+\.\d+s|\d+(\.\d+)?(ms|µs))\b`), "5ms"},
	{regexp.MustCompile(`took=\d\S*s`), "took=5ms"},
	{regexp.MustCompile(`(?m)^([abc]\s+voter\s+\w+\s+)\d+`), "${1}42"},
	{regexp.MustCompile(`at index \d+`), "at index 42"},
	{regexp.MustCompile(`Z \d+\.\d+ `), "Z 42.0 "},
	{regexp.MustCompile(`\(\d+ bytes of message\)`), "(188 bytes of message)"},
	{regexp.MustCompile(`size( +)34\d bytes`), "size${1}349 bytes"},
	{regexp.MustCompile(`<[0-9.]+@[^>]+>`), "<4711@client.example.org>"},
	{regexp.MustCompile(`\b(by|on|claimed by) node [abc]\b`), "$1 node b"},
	{regexp.MustCompile(`: node [abc] has`), ": node b has"},
	{regexp.MustCompile(`node=[abc]\b`), "node=b"},
	{regexp.MustCompile(`\b((?:attempt-failed|delivered|bounced|frozen) +)[abc] `), "${1}b "},
	{regexp.MustCompile(`leader( +)[abc]\b`), "leader${1}a"},
	{regexp.MustCompile(`\b(v0\.0\.0-\S+|development)`), "v1.0.0"},
	{regexp.MustCompile(`\b[0-9a-f]{16} \(\d+\)`), "5ef8f0739948142a (1)"},
}

// shown is what a command printed as the page shows it. Columns stay where they
// are as far as the words have blanks behind them.
func (n *names) shown(printed string) string {
	for _, id := range ulid.FindAllString(printed, -1) {
		n.learn(id)
	}
	for _, p := range n.pairs {
		printed = replaceAligned(printed, regexp.MustCompile(regexp.QuoteMeta(p.real)), p.shown)
	}
	for _, p := range patterns {
		printed = replaceAligned(printed, p.of, p.shown)
	}
	return printed
}

// learn gives an id the next one of the page.
func (n *names) learn(id string) {
	for _, p := range n.pairs {
		if p.real == id {
			return
		}
	}
	n.messages++
	n.pairs = append(n.pairs, pair{id, fmt.Sprintf("01KH0000000000000000000%03d", n.messages)})
}

func replaceAligned(text string, of *regexp.Regexp, shown string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(replaceInLine(line, of, shown))
	}
	return out.String()
}

func replaceInLine(line string, of *regexp.Regexp, shown string) string {
	var out strings.Builder
	for {
		at := of.FindStringSubmatchIndex(line)
		if at == nil {
			return out.String() + line
		}
		word := string(of.ExpandString(nil, shown, line, at))
		was := at[1] - at[0]
		out.WriteString(line[:at[0]] + word)
		line = line[at[1]:]
		blanks := len(line) - len(strings.TrimLeft(line, " "))
		if blanks >= 2 {
			line = strings.Repeat(" ", max(2, blanks+was-len(word))) + line[blanks:]
		}
	}
}
