package main

import (
	"fmt"
	"os"
	"strings"
)

// section is a part of the design.
type section struct {
	title string
	rules []rule
}

// rule is one rule of the protocol.
type rule struct {
	text string
	in   string // the function or type that obeys it, in the file of the first change
	// without are the changes to the code that take the rule out.
	without []change
	test    string // which must fail then, as PACKAGE.TestName
	says    string // and what it must say

	// note is for the reader: the model's number, or what isn't built.
	note string
}

// change replaces a text that occurs once in a file.
type change struct{ file, old, new string }

// where is the code that obeys the rule.
func (r rule) where() string {
	if len(r.without) == 0 {
		return r.in
	}
	return r.without[0].file + " " + r.in
}

// testIn splits test into the folder of its package and its name.
func (r rule) testIn() (folder, name string) {
	folder, name, _ = strings.Cut(r.test, ".")
	return folder, name
}

// changed is the file's text without the rule.
func (c change) changed() (string, error) {
	text, err := os.ReadFile(c.file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), c.old); n != 1 {
		return "", fmt.Errorf("%s has %d times, want once:\n%s", c.file, n, c.old)
	}
	return strings.Replace(string(text), c.old, c.new, 1), nil
}

// allSections are the design's parts in its order.
func allSections() []section {
	return []section{
		{"Promises", promises()},
		{"The way of a message", way()},
		{"Re-proposing and aborts", proposals()},
		{"Outcomes", outcomes()},
		{"State", stateRules()},
		{"Leases", leases()},
		{"Ownership and claims", claims()},
		{"Clocks", clocks()},
		{"Destinations", destinations()},
		{"Recipients", recipients()},
		{"Back-pressure and disks", pressure()},
		{"Restore and recovery", recovery()},
		{"Versions and drills", versions()},
	}
}
