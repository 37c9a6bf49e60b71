package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table aligns columns. On a terminal the last column is folded to what is left
// of its width, and cells may have a colour. Flush it at the end.
type table struct{ grid *grid }

type grid struct {
	w      io.Writer
	screen screen
	gap    int // between two columns
	rows   [][]cell
}

// cell is a piece of text and how it looks on a terminal.
type cell struct {
	text string
	look look
}

// look is an attribute of ECMA-48 (SGR), none by default.
type look string

const (
	plain  look = ""
	bold   look = "1"
	red    look = "31"
	green  look = "32"
	yellow look = "33"
)

func newTable(w io.Writer) table {
	return table{&grid{w: w, screen: screenOf(w), gap: 2}}
}

// row adds cells; what comes from remote servers can't break the alignment.
func (t table) row(cells ...any) {
	row := make([]cell, len(cells))
	for i, c := range cells {
		if known, ok := c.(cell); ok {
			row[i] = cell{printable(known.text), known.look}
		} else {
			row[i] = cell{text: printable(fmt.Sprint(c))}
		}
	}
	for len(row) > 0 && row[len(row)-1].text == "" {
		row = row[:len(row)-1]
	}
	t.grid.rows = append(t.grid.rows, row)
}

// header adds the names of the columns.
func (t table) header(names ...string) {
	cells := make([]any, len(names))
	for i, name := range names {
		cells[i] = cell{name, bold}
	}
	t.row(cells...)
}

func (t table) flush() error {
	g := t.grid
	rows := g.rows
	g.rows = nil
	// A row without cells ends a block, whose columns are its own.
	for len(rows) > 0 {
		n := 0
		for n < len(rows) && len(rows[n]) > 0 {
			n++
		}
		if err := g.block(rows[:n]); err != nil {
			return err
		}
		if n == len(rows) {
			return nil
		}
		if _, err := fmt.Fprintln(g.w); err != nil {
			return err
		}
		rows = rows[n+1:]
	}
	return nil
}

func (g *grid) block(rows [][]cell) error {
	// The last cell of a row needs no room, and doesn't widen its column.
	var widths []int
	for _, row := range rows {
		for i := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if i < len(row)-1 {
				widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
			}
		}
	}
	for _, row := range rows {
		if _, err := io.WriteString(g.w, g.line(row, widths)); err != nil {
			return err
		}
	}
	return nil
}

// Where less than leastFold columns are left for the last cell of a row, it goes
// to lines of its own, indented.
const (
	leastFold  = 24
	foldIndent = 4
)

// line puts a row. A column that doesn't fit begins a new line, of the header too,
// so that both stay one below the other.
func (g *grid) line(row []cell, widths []int) string {
	var b strings.Builder
	at := 0
	for i, c := range row {
		if i == len(row)-1 {
			g.last(&b, c, at)
			break
		}
		if g.screen.width > 0 && at > foldIndent && at+widths[i] > g.screen.width {
			b.WriteString("\n" + strings.Repeat(" ", foldIndent))
			at = foldIndent
		}
		g.put(&b, c)
		b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+g.gap))
		at += widths[i] + g.gap
	}
	return strings.TrimRight(b.String(), " ") + "\n"
}

// last puts a row's last cell, folded where it doesn't fit.
func (g *grid) last(b *strings.Builder, c cell, at int) {
	if room := g.screen.width - at; g.screen.width == 0 || utf8.RuneCountInString(c.text) <= room {
		g.put(b, c)
		return
	}
	if g.screen.width-at < leastFold && at > foldIndent {
		b.WriteString("\n" + strings.Repeat(" ", foldIndent))
		at = foldIndent
	}
	for i, line := range fold(c.text, max(g.screen.width-at, leastFold)) {
		if i > 0 {
			b.WriteString("\n" + strings.Repeat(" ", at))
		}
		g.put(b, cell{line, c.look})
	}
}

func (g *grid) put(b *strings.Builder, c cell) {
	b.WriteString(g.screen.paint(c.text, c.look))
}

// fold breaks a text at its blanks into lines of at most width characters; a word
// that is longer stays whole, so that it can be copied.
func fold(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}
