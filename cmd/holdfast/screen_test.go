package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"holdfast/test/admintest"
)

// onTerminal runs a command line with stdout and stderr on a pseudo-terminal of
// some columns, and gives what that showed.
func onTerminal(t *testing.T, w *admintest.World, columns uint16, env map[string]string, args ...string) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here:", err)
	}
	defer func() { _ = master.Close() }() // its reader has ended
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&shown, master) // ends with EIO when the slave is closed
	}()
	getenv := func(name string) string { return env[name] }
	a := &app{
		in: slave, out: console{slave, getenv}, err: console{slave, getenv}, env: getenv,
		now: func() time.Time { return admintest.Now }, terminal: func() bool { return false },
	}
	status := a.run(t.Context(), append(args, "--addr", w.Socket))
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	<-read
	text := strings.ReplaceAll(shown.String(), "\r\n", "\n")
	if status != exitDone {
		t.Errorf("%v: status %d, %s", args, status, text)
	}
	return text
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

func longestLine(text string) (longest int) {
	for line := range strings.Lines(text) {
		longest = max(longest, utf8.RuneCountInString(strings.TrimRight(line, "\n")))
	}
	return longest
}

func TestColourIsForTerminals(t *testing.T) {
	w, _ := scene(t)
	term := map[string]string{"TERM": "xterm"}
	if got := onTerminal(t, w, 200, term, "status"); !strings.Contains(got, "\x1b[31mno\x1b[0m") || !strings.Contains(got, "\x1b[1mNODE\x1b[0m") {
		t.Errorf("no colour: %q", got)
	}
	for _, env := range []map[string]string{{"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}, {}} {
		if got := onTerminal(t, w, 200, env, "status"); strings.Contains(got, "\x1b") {
			t.Errorf("%v: %q", env, got)
		}
	}
	if r := shellFor(w).run(t, "status"); strings.Contains(r.out+r.err, "\x1b") {
		t.Errorf("colour without a terminal: %q", r.out)
	}
}

// What is folded says the same as what isn't, and its lines fit.
func TestTablesFitTheTerminal(t *testing.T) {
	w, ids := scene(t)
	words := func(text string) string { return strings.Join(strings.Fields(escapes.ReplaceAllString(text, "")), " ") }
	for _, args := range [][]string{
		{"status"}, {"queue", "list"}, {"queue", "show", ids["DOWN"]}, {"log", "show", ids["DEFERRED"]},
		{"log", "search"}, {"destination", "list"}, {"queue", "count", "--by", "domain"},
	} {
		wide := shellFor(w).run(t, args...).out
		for _, columns := range []uint16{80, 120, 200} {
			got := onTerminal(t, w, columns, map[string]string{"TERM": "xterm"}, args...)
			if words(got) != words(wide) {
				t.Errorf("%v in %d columns\n%s\nwithout a terminal\n%s", args, columns, got, wide)
			}
			if longest := longestLine(escapes.ReplaceAllString(got, "")); longest > int(columns) {
				t.Errorf("%v has a line of %d characters in %d columns:\n%s", args, longest, columns, got)
			}
		}
	}
}

// A watch goes on at the next node when the one it asked is gone.
func TestWatchSurvivesItsNode(t *testing.T) {
	first, second := admintest.Start(t), admintest.Start(t)
	first.Configure()
	second.Configure()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := countingWriter{after: func(n int) {
		switch n {
		case 1:
			first.StopServing()
		case 3:
			cancel()
		}
	}}
	a := &app{in: strings.NewReader(""), out: &out, err: io.Discard, now: func() time.Time { return admintest.Now },
		env: func(string) string { return "" }, terminal: func() bool { return false }}
	if status := a.run(ctx, []string{"queue", "count", "--json", "--watch=10ms", "--addr", first.Socket + "," + second.Socket}); status != exitDone {
		t.Errorf("status %d", status)
	}
	if out.lines < 3 {
		t.Errorf("%d lines", out.lines)
	}
}
