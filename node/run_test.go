package node

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"
)

// freeAddress is below the range from which connections get their own ports.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		if l, err := net.Listen("tcp", address); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// One node of three, the others of which aren't there, takes no mail, and
// refuses none for good.
func TestNodeWithoutAClusterDefers(t *testing.T) {
	c := DefaultConfig()
	c.NodeID, c.DataDir = "a", t.TempDir()
	c.SMTP.Listen, c.SMTP.Hostname = []string{freeAddress(t)}, "mx-a.example.net"
	c.Raft.Listen, c.Admin.Listen, c.HTTP.Listen = freeAddress(t), []string{freeAddress(t)}, freeAddress(t)
	c.Cluster.BootstrapExpect = 3
	c.Cluster.Join = []string{c.Admin.Listen[0], freeAddress(t), freeAddress(t)}
	n, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()
	conn, err := net.Dial("tcp", n.SMTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	replies := bufio.NewReader(conn)
	for _, step := range []struct{ send, want string }{
		{"", "220"}, {"HELO client.test", "250"}, {"MAIL FROM:<a@b.test>", "451"},
	} {
		if step.send != "" {
			if _, err := fmt.Fprintf(conn, "%s\r\n", step.send); err != nil {
				t.Fatal(err)
			}
		}
		reply, err := replies.ReadString('\n')
		if err != nil || !strings.HasPrefix(reply, step.want) {
			t.Fatalf("%q: got %q, want %s: %v", step.send, reply, step.want, err)
		}
	}
}
