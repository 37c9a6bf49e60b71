package main

import (
	"fmt"
	"strings"
)

const document = "docs/protocol.md"

const introduction = `# The rules of the protocol

Written by ` + "`go run ./test/rules -write`" + `; a test holds it up to date.

Each rule of the design's protocol, where it is in the code, and the test that fails without it. ` + "`make rules`" + ` shows it: it takes one rule after the other out of the code, runs the test, and wants it to fail in the words of the last column. ` + "`make rules ARGS='-run lease'`" + ` takes out only those that match.

"model N" is a row of [model.md](model.md): there all orders of the steps are tried, and the shortest story of what goes wrong without the rule is told. A rule without a test of its own says why; one that isn't built says so.
`

// render makes the document.
func render(sections []section) string {
	var b strings.Builder
	b.WriteString(introduction)
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n| Rule | In the code | Test that fails without it | In these words |\n|---|---|---|---|\n", s.title)
		for _, r := range s.rules {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", cell(r.text), code(r.where()), testCell(r), cell(r.says))
		}
	}
	return b.String()
}

func testCell(r rule) string {
	var parts []string
	if r.test != "" {
		folder, name := r.testIn()
		parts = append(parts, "`"+folder+"` "+name)
	}
	if r.note != "" {
		parts = append(parts, r.note)
	}
	return cell(strings.Join(parts, "; "))
}

// code sets the file of "file function" in type.
func code(where string) string {
	file, function, ok := strings.Cut(where, " ")
	if !ok || !strings.Contains(file, ".go") {
		return cell(where)
	}
	return cell("`" + file + "` " + function)
}

func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "|", `\|`), "\n", " ")
}
