package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"holdfast/relay"
	"holdfast/test/admintest"
)

var write = flag.Bool("write", false, "write docs/policies.md")

const policiesPage = "../../docs/policies.md"

// The page about the shipped policies is made from what the program prints:
// go test ./cmd/holdfast -run PoliciesPage -write.
func TestPoliciesPage(t *testing.T) {
	sh := shellFor(admintest.Start(t))
	var b bytes.Buffer
	b.WriteString(policiesIntroduction)
	for _, p := range relay.ShippedPolicies() {
		shown := sh.run(t, "policy", "show", p.Name)
		if shown.status != exitDone {
			t.Fatalf("%+v", shown)
		}
		fmt.Fprintf(&b, "\n## %s\n\n```\n%s```\n", p.Name, abridged(shown.out))
	}
	if *write {
		if err := os.WriteFile(policiesPage, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(policiesPage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(page, b.Bytes()) {
		t.Error("docs/policies.md isn't what the program prints: go test ./cmd/holdfast -run PoliciesPage -write")
	}
}

const policiesIntroduction = `# Retry policies

A retry policy says when a message that its destination deferred is tried again, and at which age it is returned to its sender. Each domain names one (` + "`holdfast domain set example.com --policy month`" + `); without a name it is ` + "`" + relay.DefaultPolicy + "`" + `. Reports to senders go by ` + "`" + relay.DefaultPolicy + "`" + ` too, whatever the domain has that they go to.

- Ages count from acceptance. A phase ends at an age; in it attempts are an interval apart, which grows by the factor from one to the next. An interval belongs to the phase in which it begins and is not cut short where that ends; after the last phase its last interval goes on.
- The last attempt comes at the end of the retention, then the message is returned; with a limit of attempts it is returned when the last of them has failed.
- While a destination is down its messages make no attempts of their own: the destination is probed, no probe counts as an attempt of the message that it carries, and when it is back its queue goes at once. Expiry goes by each message's age all the same.
- A change works from each message's next attempt on. A longer retention saves what is already queued; a shorter one returns what is older.
- Jitter moves each attempt by chance, so that mail which came together doesn't come back together. The times below are without it.

Policies of your own are set with ` + "`holdfast policy set`" + `; the line "made with" has the flags for a copy. The shipped ones can't be changed, and none of them sends delay warnings (` + "`--warn-after`" + `).

What follows is printed by ` + "`holdfast policy show`" + `, with long runs of equal intervals cut short.
`

// abridged leaves out the middle of long runs of equal intervals.
func abridged(shown string) string {
	lines := strings.SplitAfter(shown, "\n")
	interval := func(i int) string {
		if i < 0 || i >= len(lines) {
			return ""
		}
		fields := strings.Fields(lines[i])
		if len(fields) == 0 {
			return ""
		}
		return fields[len(fields)-1]
	}
	var b strings.Builder
	left := 0
	for i, line := range lines {
		same := interval(i-2) == interval(i) && interval(i-1) == interval(i) &&
			interval(i+1) == interval(i) && interval(i+2) == interval(i)
		if same && interval(i) != "" {
			left++
			continue
		}
		if left > 0 {
			fmt.Fprintf(&b, "         … %d more\n", left)
			left = 0
		}
		b.WriteString(line)
	}
	return b.String()
}
