package architecture

import (
	"fmt"
	"go/ast"
	"maps"
	"slices"
	"strings"
)

const maxLines = 600

func lengthViolations(files []sourceFile) []string {
	var found []string
	for _, f := range files {
		if !f.generated && f.lines > maxLines {
			found = append(found, fmt.Sprintf("%s has %d lines, at most %d are allowed: a file is one concern, so cut it where the concerns part",
				f.path, f.lines, maxLines))
		}
	}
	return found
}

// packageCommentViolations looks at packages as readers find them: not at
// generated code, not at folders that have only tests.
func packageCommentViolations(files []sourceFile) []string {
	comments := map[string][]string{}
	for _, f := range files {
		if f.test || f.generated {
			continue
		}
		with := comments[f.dir()]
		if f.syntax.Doc != nil {
			with = append(with, f.path)
		}
		comments[f.dir()] = with
	}
	var found []string
	for _, dir := range slices.Sorted(maps.Keys(comments)) {
		switch with := comments[dir]; {
		case len(with) == 0:
			found = append(found, fmt.Sprintf("%s has no package comment: say in one file what the package does, as the steps of one job", dir))
		case len(with) > 1:
			found = append(found, fmt.Sprintf("%s has %d package comments (%s): godoc joins them in no order, so keep one",
				dir, len(with), strings.Join(with, ", ")))
		}
	}
	return found
}

func sleepViolations(files []sourceFile) []string {
	var found []string
	for _, f := range files {
		if !f.test && !strings.HasPrefix(f.path, "test/") {
			continue
		}
		f.uses("time", set("Sleep"), func(n ast.Node, _ string) {
			found = append(found, fmt.Sprintf("%s sleeps: wait for the condition or the event itself; a sleep is too short on a slow machine and too long on any other", f.at(n)))
		})
	}
	return found
}

// Where Apply may look: nowhere but the event and the state. Almost all of fsm
// is called from Apply, so the rule is for all of it.
var (
	impureImports = set("net", "net/http", "math/rand", "math/rand/v2", "crypto/rand", "os/exec")
	impureTime    = set("Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "Sleep")
	impureOS      = set("Getenv", "LookupEnv", "Environ", "Hostname", "Getpid")
	// notApplied are files of fsm that Apply doesn't compute with: the first
	// measures it, the second bounds the wait for a disk.
	notApplied = set("fsm/timer.go", "fsm/snapshot.go")
)

const pure = "two nodes must fold the same log into the same state, so the proposer chooses it and writes it into the event"

func purityViolations(files []sourceFile) []string {
	var found []string
	for _, f := range files {
		if f.test || !holds(f.dir())("fsm") || notApplied[f.path] {
			continue
		}
		for _, imported := range f.imports() {
			if impureImports[imported] {
				found = append(found, fmt.Sprintf("%s imports %s: %s", f.path, imported, pure))
			}
		}
		report := func(pkg string) func(ast.Node, string) {
			return func(n ast.Node, name string) {
				found = append(found, fmt.Sprintf("%s uses %s.%s: %s", f.at(n), pkg, name, pure))
			}
		}
		f.uses("time", impureTime, report("time"))
		f.uses("os", impureOS, report("os"))
	}
	return found
}

// clockViolations: node/ puts the parts together, so it is where one of them could
// get the wall clock.
func clockViolations(files []sourceFile) []string {
	var found []string
	for _, f := range files {
		if f.test || f.dir() != "node" {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			literal, ok := n.(*ast.CompositeLit)
			if !ok || isSelector(literal.Type, "cluster", "Config") {
				return true
			}
			for _, element := range literal.Elts {
				field, ok := element.(*ast.KeyValueExpr)
				if !ok || !isSelector(field.Value, "time", "Now") {
					continue
				}
				if key, ok := field.Key.(*ast.Ident); ok && key.Name == "Now" {
					found = append(found, fmt.Sprintf("%s gives a part the wall clock: it may jump by days, so only the cluster sees it, and all others go by Cluster.Now", f.at(field)))
				}
			}
			return true
		})
	}
	return found
}

func isSelector(e ast.Expr, pkg, name string) bool {
	selector, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := selector.X.(*ast.Ident)
	return ok && x.Name == pkg && selector.Sel.Name == name
}

func set(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, name := range names {
		m[name] = true
	}
	return m
}
