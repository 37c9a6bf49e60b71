package main

import (
	"encoding/json"
	"strings"
	"testing"

	"holdfast/test/admintest"
	"holdfast/test/sink"
)

// A new host is tried before mail goes there: step by step, up to the content
// and not beyond, unless a message is asked for.
func TestDestinationTest(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	sh := shellFor(w)
	server := startSink(t, sink.Config{STARTTLS: true, Answer: func(step sink.Step) sink.Reply {
		if step.Verb == "RCPT" && strings.HasPrefix(step.Address, "nobody@") {
			return sink.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"}
		}
		return sink.Reply{}
	}})
	const nobody = "127.0.0.1:1"
	for _, tt := range []struct {
		name   string
		args   string
		status int
		out    []string // parts, in this order
		not    string
		err    string
		sent   int
	}{
		{"connection", "--host " + server.Addr(), exitDone, []string{
			"connects to " + server.Addr(), "<-- 220 sink.test", "--> EHLO a.relay.test", "--> STARTTLS", "encrypted with TLS 1.3, TLS_",
			"certificate for sink.test, localhost, 127.0.0.1, ::1, of ", "would not do for --tls verify: x509", "<-- 250", "--> QUIT",
			server.Addr() + " after ", "all went well, TLS 1.3",
		}, "MAIL", "", 0},
		{"envelope", "--host " + server.Addr() + " --to you@one.test", exitDone, []string{
			"--> MAIL FROM:<>", "--> RCPT TO:<you@one.test>", "<-- 250", "all went well",
		}, "DATA", "", 0},
		{"refused recipient", "--host " + server.Addr() + " --to you@one.test,nobody@one.test", exitFailed, []string{
			"<-- 550 5.1.1 no such user", server.Addr() + " after ", "rejected at rcpt: 550 5.1.1 no such user",
		}, "BDAT", "destination one: " + server.Addr() + ": rejected at rcpt", 0},
		{"message", "--host " + server.Addr() + " --from me@x.test --to you@one.test --send", exitDone, []string{
			"--> MAIL FROM:<me@x.test>", "--> RCPT TO:<you@one.test>", " bytes of message", "all went well",
		}, "", "", 1},
		{"nobody listens", "--host " + nobody, exitFailed, []string{
			"connects to " + nobody, "connection refused", "refused at connect",
		}, "EHLO", "refused at connect", 0},
		{"to whom", "--send", exitUsage, nil, "", "--to ADDRESS", 0},
		{"no address", "--to you", exitUsage, nil, "", `"you" is not a mail address`, 0},
		{"no port", "--host mail.test", exitUsage, nil, "", "mail.test", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server.Reset()
			r := sh.run(t, append([]string{"destination", "test", "one"}, strings.Fields(tt.args)...)...)
			if r.status != tt.status || !strings.Contains(r.err, tt.err) || tt.err == "" && r.err != "" {
				t.Errorf("status %d, stderr %q", r.status, r.err)
			}
			rest := r.out
			for _, part := range tt.out {
				_, after, found := strings.Cut(rest, part)
				if !found {
					t.Fatalf("%q is not where it should be in\n%s", part, r.out)
				}
				rest = after
			}
			if tt.not != "" && strings.Contains(r.out, tt.not) {
				t.Errorf("%q in\n%s", tt.not, r.out)
			}
			if got := server.Stats().Committed; got != tt.sent {
				t.Errorf("%d messages arrived, want %d", got, tt.sent)
			}
		})
	}
	if r := sh.run(t, "destination", "test", "nowhere"); r.status != exitNotFound {
		t.Errorf("status %d of one that doesn't exist: %s", r.status, r.err)
	}
	r := sh.run(t, "destination", "test", "one", "--host", nobody, "--json")
	wantJSONLines(t, r.out)
	var last trialLineJSON
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Kind != "verdict" || last.Err == nil || last.Err.Cause != "refused" {
		t.Errorf("the last line is %s", lines[len(lines)-1])
	}
}

func startSink(t *testing.T, config sink.Config) *sink.Server {
	t.Helper()
	server, err := sink.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// A migration can be undone, and so can that.
func TestUndoOfAMigration(t *testing.T) {
	w := admintest.Start(t)
	sh := shellFor(w)
	for _, tt := range []struct {
		args   string
		status int
		want   string // of what is printed
	}{
		{"set office --undo", exitNotFound, "no destination office"},
		{"set office --host old.test:25 --slots 7", exitDone, "created: old.test:25, 7 slots"},
		{"set office --undo", exitFailed, "nothing to undo"},
		{"set office --host new.test:2525", exitDone, "before: old.test:25; `holdfast destination set office --undo` takes it back"},
		{"set office --slots 9", exitDone, "new.test:2525, 9 slots"},
		{"show office", exitDone, "old.test:25, until "},
		{"set office --undo --host other.test:25", exitUsage, "--undo"},
		{"set office --undo", exitDone, "old.test:25, 9 slots"},
		{"set office --undo", exitDone, "new.test:2525, 9 slots"},
		{"set office --mx example.test", exitDone, "before: new.test:2525"},
		{"set office --undo", exitDone, "before: MX of example.test"},
		{"show office --json", exitDone, `"earlier":{"hosts":[],"mx":"example.test"`},
	} {
		r := sh.run(t, append([]string{"destination"}, strings.Fields(tt.args)...)...)
		if r.status != tt.status || !strings.Contains(r.out+r.err, tt.want) {
			t.Errorf("%s: status %d, %s%s", tt.args, r.status, r.out, r.err)
		}
	}
}
