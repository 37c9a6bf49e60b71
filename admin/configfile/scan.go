package configfile

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Problem is something wrong with a file.
type Problem struct {
	Line int // 0 where it isn't about one
	Text string
}

// value is a value and where it stands.
type value struct {
	line int
	kind unstable.Kind
	text string // of a string or a number
	list []value
}

// table is what a file says about one thing: a domain, or the settings.
type table struct {
	kind, name string
	line       int
	keys       map[string]value
	order      []string
}

// scanner goes through a file once.
type scanner struct {
	parser   unstable.Parser
	text     []byte
	offset   int // up to which lines are counted
	line     int
	prefix   []string // of the table that it is in
	tables   map[string]*table
	order    []*table
	headers  map[string]int  // lines of table headers
	told     map[string]bool // paths that were a problem already: each of their keys comes here too
	top      table           // keys outside of tables
	problems []Problem
}

// scan reads a file; after a syntax error nothing more is understood.
func scan(text []byte) *scanner {
	s := &scanner{
		text: text, line: 1, tables: make(map[string]*table), headers: make(map[string]int), told: make(map[string]bool),
		top: table{keys: make(map[string]value)},
	}
	if !utf8.Valid(text) {
		s.problem(0, "the file isn't UTF-8 text")
		return s
	}
	s.parser.Reset(text)
	for s.parser.NextExpression() {
		s.expression(s.parser.Expression())
	}
	if err := s.parser.Error(); err != nil {
		line := s.line
		if e, ok := errors.AsType[*unstable.ParserError](err); ok && len(e.Highlight) > 0 {
			line = 1 + bytes.Count(text[:s.parser.Range(e.Highlight).Offset], []byte("\n"))
		}
		s.problem(line, "%s", strings.TrimPrefix(err.Error(), "toml: "))
	}
	return s
}

func (s *scanner) problem(line int, format string, args ...any) {
	s.problems = append(s.problems, Problem{Line: line, Text: fmt.Sprintf(format, args...)})
}

func (s *scanner) expression(node *unstable.Node) {
	path, line := s.key(node)
	switch node.Kind {
	case unstable.Table:
		s.prefix = path
		if first, twice := s.headers[strings.Join(path, "\x00")]; twice {
			s.problem(line, "[%s] is there twice, first in line %d", header(path), first)
		}
		s.headers[strings.Join(path, "\x00")] = line
		s.open(path, line)
	case unstable.ArrayTable:
		s.prefix = path
		s.problem(line, "[[%s]]: want [%s] with a name, such as [domain.\"example.com\"]", header(path), header(path))
	case unstable.KeyValue:
		s.set(append(s.prefix[:len(s.prefix):len(s.prefix)], path...), line, node.Value())
	}
}

// key is the dotted key of a node and its line.
func (s *scanner) key(node *unstable.Node) (path []string, line int) {
	for parts := node.Key(); parts.Next(); {
		part := parts.Node()
		if line == 0 {
			line = s.lineOf(int(part.Raw.Offset))
		}
		path = append(path, string(part.Data))
	}
	return path, line
}

// lineOf counts on from the last place that it was asked for: keys come in the
// order of the file.
func (s *scanner) lineOf(offset int) int {
	if offset < s.offset {
		return 1 + bytes.Count(s.text[:offset], []byte("\n"))
	}
	s.line += bytes.Count(s.text[s.offset:offset], []byte("\n"))
	s.offset = offset
	return s.line
}

// open finds the table of a path, or makes it; nil for a path that is none.
func (s *scanner) open(path []string, line int) *table {
	if len(path) == 0 {
		return &s.top
	}
	kind, name := path[0], ""
	switch {
	case s.told[header(path)]:
		return nil
	case !isKind(kind):
		s.told[header(path)] = true
		s.problem(line, "unknown table [%s]: there are [settings], [policy.NAME], [destination.NAME] and [domain.\"NAME\"]", header(path))
		return nil
	case kind == "settings" && len(path) == 1:
	case kind == "settings":
		s.told[header(path)] = true
		s.problem(line, "unknown table [%s]: the settings are all in [settings]", header(path))
		return nil
	case len(path) == 1:
		return nil // [domain], with names as its keys
	case len(path) == 2:
		name = path[1]
	default:
		s.told[header(path)] = true
		s.problem(line, "[%s]: a name with dots stands in quotes, [%s.%q]", header(path), kind, strings.Join(path[1:], "."))
		return nil
	}
	id := kind + "\x00" + name
	if s.tables[id] == nil {
		s.tables[id] = &table{kind: kind, name: name, line: line, keys: make(map[string]value)}
		s.order = append(s.order, s.tables[id])
	}
	return s.tables[id]
}

func (s *scanner) set(path []string, line int, node *unstable.Node) {
	if node.Kind == unstable.InlineTable {
		if s.open(path, line) == nil && len(path) > 1 {
			return
		}
		for children := node.Children(); children.Next(); {
			child := children.Node()
			under, at := s.key(child)
			s.set(append(path[:len(path):len(path)], under...), at, child.Value())
		}
		return
	}
	key := path[len(path)-1]
	t := s.open(path[:len(path)-1], line)
	switch {
	case t == nil && len(path) == 2 && isKind(path[0]):
		s.problem(line, "%s: want a table, such as [%s.%q]", header(path), path[0], key)
		return
	case t == nil:
		return
	}
	if first, twice := t.keys[key]; twice {
		s.problem(line, "%s is there twice, first in line %d", key, first.line)
		return
	}
	t.keys[key] = s.value(node, line)
	t.order = append(t.order, key)
}

func (s *scanner) value(node *unstable.Node, line int) value {
	v := value{line: line, kind: node.Kind, text: string(node.Data)}
	if node.Kind == unstable.Array {
		for children := node.Children(); children.Next(); {
			item := children.Node()
			v.list = append(v.list, s.value(item, s.lineOfItem(item, line)))
		}
	}
	return v
}

func header(path []string) string {
	parts := make([]string, len(path))
	for i, part := range path {
		parts[i] = bare(part)
	}
	return strings.Join(parts, ".")
}

const bareCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// bare is a key without quotes where TOML lets it be.
func bare(key string) string {
	if key == "" || strings.Trim(key, bareCharacters) != "" {
		return quote(key)
	}
	return key
}

// quote writes a basic string.
func quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			b.WriteRune('\\')
			b.WriteRune(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func number(v value) (int64, error) {
	if v.kind != unstable.Integer {
		return 0, errors.New("want a number without quotes")
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(v.text, "_", ""), 0, 64)
	if err != nil || strings.HasPrefix(strings.TrimLeft(v.text, "+-"), "0") && len(v.text) > 1 && !strings.ContainsAny(v.text, "xob") {
		return 0, errors.New("want a whole number")
	}
	return n, nil
}

func text(v value) (string, error) {
	if v.kind != unstable.String {
		return "", errors.New("want a text in quotes")
	}
	return v.text, nil
}

func truth(v value) (bool, error) {
	if v.kind != unstable.Bool {
		return false, errors.New("want true or false, without quotes")
	}
	return v.text == "true", nil
}

func texts(v value) ([]string, error) {
	if v.kind != unstable.Array {
		return nil, errors.New("want a list of texts, such as [\"one\", \"two\"]")
	}
	var all []string
	for _, item := range v.list {
		s, err := text(item)
		if err != nil {
			return nil, errors.New("want a list of texts, each in quotes")
		}
		all = append(all, s)
	}
	return all, nil
}
