package node

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

// alone runs one node of three, the others of which aren't there.
func alone(t *testing.T) *Node {
	t.Helper()
	c := DefaultConfig()
	c.NodeID, c.DataDir = "a", t.TempDir()
	ports := freePorts(t, 6)
	c.SMTP.Listen, c.SMTP.Hostname = ports[:1], "mx-a.example.net"
	c.Raft.Listen, c.Admin.Listen, c.HTTP.Listen = ports[1], ports[2:3], ports[3]
	c.Cluster.BootstrapExpect = 3
	c.Cluster.Join = []string{ports[2], ports[4], ports[5]}
	n, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	return n
}

// Where the others aren't there, a node takes no mail, and refuses none for good.
func TestNodeWithoutAClusterDefers(t *testing.T) {
	n := alone(t)
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
