package node

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
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
	cfg.Raft.Listen, cfg.HTTP.Listen = freePort(t), freePort(t)
	cfg.Admin.Listen = []string{freePort(t)}
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
	free.Store(1 << 20)
	wantMail(t, n, "452 4.3.1 ")
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

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
