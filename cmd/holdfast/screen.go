package main

import (
	"io"
	"os"
)

// screen is what someone looks at, if anyone does.
type screen struct {
	terminal bool
	width    int // in characters, 0 where output isn't folded
	colour   bool
}

// paint gives a text its look where there is colour.
func (s screen) paint(text string, look look) string {
	if !s.colour || look == plain || text == "" {
		return text
	}
	return "\x1b[" + string(look) + "m" + text + "\x1b[0m"
}

// screener is a writer that knows what shows it.
type screener interface{ screen() screen }

func screenOf(w io.Writer) screen {
	if s, ok := w.(screener); ok {
		return s.screen()
	}
	return screen{}
}

// console is stdout or stderr.
type console struct {
	*os.File
	env func(string) string
}

// screen asks each time: windows change their size. Colour goes by
// https://no-color.org.
func (c console) screen() screen {
	width, ok := terminalWidth(c.File)
	if !ok {
		return screen{}
	}
	term := c.env("TERM")
	return screen{terminal: true, width: width, colour: c.env("NO_COLOR") == "" && term != "" && term != "dumb"}
}
