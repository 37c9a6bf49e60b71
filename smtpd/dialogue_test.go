package smtpd

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/relay"
)

var rewrite = flag.Bool("rewrite", false, "write what the server says into testdata/*.dialogue")

// TestDialogues plays scripts against a server and compares what it says and
// keeps. A line is
//
//	C: text   send a line, then read a reply for each command not yet answered
//	P: text   send a command without waiting (pipelining)
//	D: text   send a line of content, to which no reply belongs
//	R: "raw"  send a Go string as it is; no reply belongs to it
//	X:        expect that the server closes the connection
//	G: reply  close the gate with this reply, or G: open
//	U:        remove all domains
//	S: text   a reply, M: text a message kept: what the server has to say
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dialogue")
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogues", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".dialogue"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(script))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(script) {
				t.Errorf("dialogue differs; got:\n%s", got)
			}
		})
	}
}

var ulidPattern = regexp.MustCompile(`\b[0-9A-HJKMNP-TV-Z]{26}\b`)

func play(t *testing.T, script string) string {
	h := start(t, func(cfg *Config, _ *cluster) {
		cfg.Now = func() time.Time { return time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC) }
		cfg.MaxMessageSize = 64 << 10
		cfg.MaxErrors = 100
		if strings.Contains(script, "# postmaster") {
			cfg.Postmaster = func() string { return "postmaster@example.org" }
		}
	})
	c := h.dial(t)
	var out strings.Builder
	pending := 1
	read := func() {
		for ; pending > 0; pending-- {
			lines, err := c.reply()
			for _, line := range lines {
				fmt.Fprintf(&out, "S: %s\n", ulidPattern.ReplaceAllString(line, "<id>"))
			}
			if err != nil {
				fmt.Fprintf(&out, "S: (%v)\n", err)
				pending = 0
				return
			}
		}
	}
	for line := range strings.Lines(script) {
		action, argument, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if action == "S" || action == "M" {
			continue
		}
		out.WriteString(line)
		switch strings.TrimSuffix(action, ":") {
		case "C":
			c.send(argument + "\r\n")
			pending++
			read()
		case "P":
			c.send(argument + "\r\n")
			pending++
		case "D":
			c.send(argument + "\r\n")
		case "R":
			raw, err := strconv.Unquote(argument)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			c.send(raw)
		case "X":
			read()
			rest, err := io.ReadAll(c.br)
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("want the end, got %v", err)
			}
			for said := range bytes.Lines(rest) {
				fmt.Fprintf(&out, "S: %s\n", ulidPattern.ReplaceAll(bytes.TrimRight(said, "\r\n"), []byte("<id>")))
			}
			out.WriteString("S: (closed)\n")
		case "G":
			h.setGate(parseGate(argument))
		case "U":
			h.mu.Lock()
			clear(h.domains)
			h.mu.Unlock()
		}
	}
	for _, m := range h.accepted() {
		fmt.Fprintf(&out, "M: %v\nM: %v\nM: %v\nM: message-id %q\n", plain(m.Envelope), plain(m.Recipients), plain(m.Origin), m.HeaderMessageId)
		for said := range bytes.Lines(m.body) {
			fmt.Fprintf(&out, "M: %s\n", ulidPattern.ReplaceAllString(strconv.Quote(string(said)), "<id>"))
		}
	}
	return out.String()
}

// plain writes protobuf text the same way each time: the library puts blanks in
// at random so that nobody relies on them.
func plain(message any) string {
	return strings.ReplaceAll(fmt.Sprint(message), "  ", " ")
}

func parseGate(argument string) *relay.Reply {
	if argument == "open" {
		return nil
	}
	fields := strings.SplitN(argument, " ", 3)
	code, err := strconv.Atoi(fields[0])
	if err != nil {
		panic(err)
	}
	return &relay.Reply{Code: code, Enhanced: fields[1], Text: fields[2]}
}
