package admin_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/admin"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// What reading the rows found is part of every verification from then on.
func TestVerifyRows(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	w.Damage("domains")
	c := dial(t, w)
	stream, err := c.VerifyRows(t.Context(), &pb.VerifyRowsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]*pb.VerifyRowsResponse{}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		told[answer.Node] = answer
	}
	if a := told["a"]; !a.GetDone() || a.Rows == 0 || a.Rows != a.Total || told["c"].GetError() != "connection refused" {
		t.Errorf("told %v", told)
	}
	found, err := c.VerifyState(t.Context(), &pb.VerifyStateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if m := found.Mismatches; len(m) != 1 || m[0].Node != "a" || m[0].Family != "domains" || !strings.Contains(m[0].Text, "a row") {
		t.Errorf("mismatches %v", m)
	}
	if found.Nodes[0].RowsCheckedAt.AsTime() != admintest.Now || found.Nodes[1].RowsCheckedAt != nil {
		t.Errorf("nodes %v", found.Nodes)
	}
}

// The leader finds a mismatch by itself, and every node's status warns of it.
func TestVerificationByItself(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	registry := prometheus.NewRegistry()
	var log syncBuffer
	cfg := admin.Config{Node: "a", State: w.State, Cluster: w, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	times := admin.VerificationTimes{First: 20 * time.Millisecond, Every: 20 * time.Millisecond}
	v := admin.NewVerification(cfg, times, registry)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := v.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer cancel()
	family := "messages"
	await := func(what string, found bool) {
		t.Helper()
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for {
			s, err := c.GetStatus(t.Context(), &pb.GetStatusRequest{})
			if err != nil {
				t.Fatal(err)
			}
			warned := slices.ContainsFunc(s.Warnings, func(w *pb.GetStatusResponse_Warning) bool {
				return w.Code == "state-mismatch" && w.Subject == "b" && strings.Contains(w.Text, family)
			})
			if warned == found && gauge(t, registry, "holdfast_state_verified_timestamp_seconds") > 0 {
				return
			}
			select {
			case <-ticker.C:
			case <-t.Context().Done():
				t.Fatal("not within the test's time: " + what)
			}
		}
	}
	await("a verification without a finding", false)
	w.Tamper(family)
	await("a warning", true)
	if n := gauge(t, registry, "holdfast_state_mismatch"); n != 2 { // of two, neither is the majority
		t.Errorf("%v mismatches in the metrics", n)
	}
	if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "node b in messages") {
		t.Errorf("log %s", text)
	}
	w.Tamper("")
	await("the end of the warning", false)
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu     sync.Mutex // guards buffer
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func gauge(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.Metric[0].Gauge.GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
