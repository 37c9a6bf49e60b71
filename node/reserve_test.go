package node

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Below the reserve a client is told to come again, and above it again mail is
// taken, without a restart.
func TestDiskReserveAtTheFrontDoor(t *testing.T) {
	dir, err := os.MkdirTemp("", "hf") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	cfg := DefaultConfig()
	cfg.NodeID, cfg.DataDir, cfg.Log.Level = "a", dir, "error"
	cfg.SMTP.Listen, cfg.SMTP.Hostname = []string{"127.0.0.1:0"}, "mx-a.example.net"
	ports := freePorts(t, 3)
	cfg.Raft.Listen, cfg.HTTP.Listen = ports[0], ports[1]
	cfg.Admin.Listen = ports[2:]
	cfg.Cluster.BootstrapExpect, cfg.Cluster.Join = 1, cfg.Admin.Listen
	n, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var free atomic.Int64
	free.Store(10 << 30)
	n.disk.stat = func(string) (int64, int64, error) { return free.Load(), 100 << 30, nil }
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()
	wantMail(t, n, "250 ")
	// Operators are told what RCPT is answered, in its order.
	if r := n.takesNothing(); r.GetCode() != 451 || !strings.Contains(r.GetText(), "no domain is configured yet") {
		t.Errorf("%v", r)
	}
	free.Store(1 << 20)
	wantMail(t, n, "452 4.3.1 ")
	if r := n.takesNothing(); r.GetCode() != 452 {
		t.Errorf("%v", r)
	}
	if code := ready(t, n); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz answers %d", code)
	}
	free.Store(10 << 30)
	wantMail(t, n, "250 ")
}

// wantMail sends MAIL until it is answered as wanted.
func wantMail(t *testing.T, n *Node, want string) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	answer := ""
	for range 600 {
		if answer = mail(t, n.SMTPAddr()); strings.HasPrefix(answer, want) {
			return
		}
		<-ticker.C
	}
	t.Fatalf("MAIL is answered %q, want %q", answer, want)
}

func mail(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	replies := bufio.NewReader(conn)
	last := ""
	for _, command := range []string{"", "HELO client.example\r\n", "MAIL FROM:<a@example.com>\r\n"} {
		if _, err := fmt.Fprint(conn, command); err != nil {
			t.Fatal(err)
		}
		if last, err = replies.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return last
}

func ready(t *testing.T, n *Node) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.HTTPAddr()+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	return answer.StatusCode
}

// freePorts are addresses that nobody has now, below the range from which
// connections get their own ports: one of those could be there before the node is.
// Other packages' tests take none of 19000 to 19999.
func freePorts(t *testing.T, count int) []string {
	t.Helper()
	var found []string
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 19_000+rand.IntN(1_000)))
		if err != nil {
			continue
		}
		defer l.Close() // all at the end: no two are the same
		if found = append(found, l.Addr().String()); len(found) == count {
			return found
		}
	}
	t.Fatalf("%d free ports wanted, %d found", count, len(found))
	return nil
}
