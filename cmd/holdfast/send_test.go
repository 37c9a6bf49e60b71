package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/test/sink"
)

func server(t *testing.T, config sink.Config) *sink.Server {
	t.Helper()
	s, err := sink.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSendShowsDialogue(t *testing.T) {
	s := server(t, sink.Config{})
	r := shell{}.run(t, "send", "--server", s.Addr(), "--from", "me@x.test", "--to", "a@y.test,b@y.test", "--body", ".dot", "--subject", "hi")
	if r.status != exitDone || r.err != "" {
		t.Fatalf("%+v", r)
	}
	at := 0
	for _, line := range []string{"connected to " + s.Addr(), "<-- 220 ", "--> EHLO ", "<-- 250-", "--> MAIL FROM:<me@x.test>", "<-- 250 ",
		"--> RCPT TO:<a@y.test>", "--> RCPT TO:<b@y.test>", "--> DATA", "<-- 354 ", "--> .", "<-- 250 ", "--> QUIT", "<-- 221 "} {
		found := strings.Index(r.out[at:], line)
		if found < 0 {
			t.Fatalf("no %q from byte %d on in\n%s", line, at, r.out)
		}
		at += found + len(line)
	}
	m := s.Messages()[0]
	if text := string(m.Data); !strings.Contains(text, "Subject: hi\r\n") || !strings.HasSuffix(text, "\r\n\r\n.dot\r\n") || len(m.Recipients) != 2 {
		t.Errorf("server took %q for %v", text, m.Recipients)
	}
}

func TestSendFile(t *testing.T) {
	s := server(t, sink.Config{})
	path := filepath.Join(t.TempDir(), "message.eml")
	if err := os.WriteFile(path, []byte("Subject: file\n\n..two dots\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := (shell{}).run(t, "send", "--server", s.Addr(), "--from", "<>", "--to", "a@y.test", "--file", path); r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	if r := (shell{in: "Subject: stdin\r\n\r\nx\r\n"}).run(t, "send", "--server", s.Addr(), "--to", "a@y.test", "--file", "-"); r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	messages := s.Messages()
	if messages[0].From != "" || string(messages[0].Data) != "Subject: file\r\n\r\n..two dots\r\n" {
		t.Errorf("file arrived as %q from %q", messages[0].Data, messages[0].From)
	}
	if string(messages[1].Data) != "Subject: stdin\r\n\r\nx\r\n" {
		t.Errorf("stdin arrived as %q", messages[1].Data)
	}
	wantError(t, shell{}.run(t, "send", "--server", s.Addr(), "--to", "a@y.test", "--file", path+".none"), exitFailed, "no such file")
}

func TestSendRefused(t *testing.T) {
	refuse := func(verb, only string) sink.Config {
		return sink.Config{Answer: func(step sink.Step) sink.Reply {
			if step.Verb == verb && (only == "" || step.Address == only) {
				return sink.Reply{Code: 550, Enhanced: "5.7.1", Text: "not here"}
			}
			return sink.Reply{}
		}}
	}
	tests := []struct {
		name   string
		config sink.Config
		want   string
		taken  int
	}{
		{"sender", refuse("MAIL", ""), "refused the sender: 550 5.7.1 not here", 0},
		{"one recipient", refuse("RCPT", "b@y.test"), "refused the recipient b@y.test: 550", 1},
		{"all recipients", refuse("RCPT", ""), "refused the recipient a@y.test: 550", 0},
		{"message", refuse(sink.Dot, ""), "refused the message: 550", 0},
		{"greeting", refuse(sink.Connect, ""), "refused the connection: 550", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := server(t, test.config)
			r := shell{}.run(t, "send", "--server", s.Addr(), "--to", "a@y.test", "--to", "b@y.test")
			wantError(t, r, exitFailed, test.want)
			if got := s.Stats().Committed; got != test.taken {
				t.Errorf("server took %d messages, want %d", got, test.taken)
			}
		})
	}
}

// Whether the message was taken is settled before QUIT: who sends it again because of a
// farewell that doesn't come sends it twice.
func TestSendWithoutFarewell(t *testing.T) {
	for name, reply := range map[string]sink.Reply{
		"closed":  {Hangup: true},
		"refused": {Code: 500, Text: "not so fast"},
	} {
		s := server(t, sink.Config{Answer: sink.On("QUIT", reply)})
		r := shell{}.run(t, "send", "--server", s.Addr(), "--to", "a@y.test")
		if r.status != exitDone || r.err != "" || s.Stats().Committed != 1 {
			t.Errorf("%s: %+v, %d messages taken", name, r, s.Stats().Committed)
		}
	}
	for _, to := range []string{"a@y.test", "a@y.test,b@y.test"} {
		s := server(t, sink.Config{Answer: sink.On("RCPT", sink.Reply{Code: 421, Enhanced: "4.3.2", Text: "leaving", Hangup: true})})
		wantError(t, shell{}.run(t, "send", "--server", s.Addr(), "--to", to), exitFailed, "refused the recipient a@y.test: 421 4.3.2 leaving")
	}
}

func TestSendWithoutAnswer(t *testing.T) {
	wantError(t, shell{}.run(t, "send", "--server", "127.0.0.1:1", "--to", "a@y.test"), exitNoAnswer, "connection refused")
	s := server(t, sink.Config{Answer: sink.On("RCPT", sink.Reply{Hangup: true})})
	wantError(t, shell{}.run(t, "send", "--server", s.Addr(), "--to", "a@y.test"), exitNoAnswer, "closed the connection")

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	wantError(t, shell{}.run(t, "send", "--server", silent.Addr().String(), "--to", "a@y.test", "--timeout", "50ms"), exitNoAnswer, "no answer from the server")
}
