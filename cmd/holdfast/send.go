package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/relay"
)

type sendCommand struct {
	*app
	server, from, file string
	to                 []string
	subject, body      string
	timeout            time.Duration
}

func (a *app) sendCommand() *cobra.Command {
	s := &sendCommand{app: a}
	cmd := &cobra.Command{
		Use:   "send --to ADDRESS...",
		Short: "Send a test message by SMTP and show the dialogue",
		Long: `Send a test message to a node by SMTP, in plain text, and show the dialogue line
by line. The exit status is 0 where every recipient and the message were
accepted, 1 where one was refused, 4 where the server doesn't answer before that.`,
		Example: `  holdfast send --to you@example.com
  holdfast send --server 127.0.0.1:2525 --to you@demo.test --subject hello --body "it works"
  holdfast send --from '<>' --to you@example.com --file message.eml`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringVar(&s.server, "server", "127.0.0.1:25", "HOST:PORT of the node's SMTP")
	flags.StringVar(&s.from, "from", "", "sender, <> for the null sender (default test@ this host)")
	flags.StringSliceVar(&s.to, "to", nil, "recipient, several are allowed")
	flags.StringVar(&s.subject, "subject", "test message", "subject")
	flags.StringVar(&s.body, "body", "This is a test message.", "text of the message")
	allowEmpty(flags, "subject", "body")
	flags.StringVar(&s.file, "file", "", "send this whole message, with its headers; - is stdin")
	flags.DurationVar(&s.timeout, "timeout", time.Minute, "longest wait for one reply")
	return cmd
}

func (s *sendCommand) run(ctx context.Context) error {
	if len(s.to) == 0 {
		return usage("say to whom with --to ADDRESS")
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	switch s.from {
	case "":
		s.from = "test@" + host
	case "<>":
		s.from = ""
	}
	for _, address := range append([]string{s.from}, s.to...) {
		if address == s.from && address == "" {
			continue
		}
		if relay.DomainOf(address) == "" || strings.ContainsAny(address, "<>\r\n ") {
			return usage("%q is not a mail address", address)
		}
	}
	content, err := s.content(host)
	if err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: s.timeout}
	conn, err := dialer.DialContext(ctx, "tcp", s.server)
	if err != nil {
		return &noAnswerError{text: fmt.Sprintf("%v; --server says where to send", err)}
	}
	defer conn.Close()
	fmt.Fprintf(s.out, "    connected to %s\n", s.server)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	return newDialogue(conn, s.out, s.timeout).send(host, s.from, s.to, content)
}

func (s *sendCommand) content(host string) (io.ReadCloser, error) {
	switch s.file {
	case "":
		return io.NopCloser(strings.NewReader(s.message(host))), nil
	case "-":
		return io.NopCloser(s.in), nil
	}
	return os.Open(s.file)
}

// message has the headers that RFC 5322 section 3.6 wants, and an id.
func (s *sendCommand) message(host string) string {
	now := s.now()
	lines := []string{
		"Date: " + now.Format(time.RFC1123Z),
		"From: " + angle(s.from, "test@"+host),
		"To: " + strings.Join(s.to, ", "),
		"Subject: " + printable(s.subject),
		fmt.Sprintf("Message-ID: <%d.%d@%s>", now.UnixNano(), os.Getpid(), host),
		"",
		s.body,
		"",
	}
	return strings.Join(lines, "\r\n")
}

// angle is the From header's address: a null sender still has an author.
func angle(from, author string) string {
	if from == "" {
		return "<" + author + ">"
	}
	return "<" + from + ">"
}
