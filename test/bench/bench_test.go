package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"holdfast/test/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The sink counts what arrives and ends with its input.
func TestSinkProtocol(t *testing.T) {
	inRead, in := io.Pipe()
	out, outWrite := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- serveSink(inRead, outWrite) }()
	buffer := make([]byte, 256)
	n, err := out.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	loader, err := load.New(load.Config{
		Addresses: []string{strings.TrimSpace(string(buffer[:n]))}, Sessions: 2, Run: "r", Count: 5,
		Recipients: []string{"user@" + domain}, Size: 1024,
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := loader.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "5\n"); err != nil {
		t.Fatal(err)
	}
	var r received
	if err := json.NewDecoder(out).Decode(&r); err != nil {
		t.Fatal(err)
	}
	if r.Messages != report.Count(load.Accepted) || r.Bytes < int64(r.Messages)*1024 || r.Arrival.Before(report.Began) || r.Arrival.After(report.Ended) {
		t.Errorf("received %+v of %d accepted", r, report.Count(load.Accepted))
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestMemoryIsRefused(t *testing.T) {
	if _, err := os.Stat("/dev/shm"); err != nil {
		t.Skip("no tmpfs at /dev/shm")
	}
	if err := checkDisk("/dev/shm"); err == nil {
		t.Error("tmpfs is taken for a disk")
	}
	if err := checkDisk(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing folder is taken for a disk")
	}
}

func TestSummaries(t *testing.T) {
	var figures []figure
	for round, rate := range []float64{300, 100, 200} {
		figures = append(figures,
			figure{System: postfixName, Size: 1024, Round: round, Delivered: rate, P99: time.Duration(rate)},
			figure{System: "holdfast-3", Size: 1024, Round: round, Delivered: 3 * rate},
			figure{System: "holdfast-3", Size: 512, Round: round, Delivered: rate})
	}
	all := summarize(figures)
	if len(all) != 3 || all[0].Size != 512 || all[0].Ratio != 0 {
		t.Fatalf("summaries %+v, want 3, the smallest size first and without a ratio", all)
	}
	if s := all[1]; s.System != postfixName || s.Delivered != 200 || s.P99 != 200 || s.Ratio != 1 || s.Rounds != 3 {
		t.Errorf("Postfix: %+v, want the median 200 of 3 rounds", s)
	}
	if s := all[2]; s.Ratio != 3 {
		t.Errorf("ratio %v, want 3", s.Ratio)
	}
	var b strings.Builder
	if err := printTable(&b, all); err != nil || !strings.Contains(b.String(), "3.00x") {
		t.Errorf("table %v:\n%s", err, b.String())
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-short", "-postfix=false", "-sizes", "1024, 2048"})
	if err != nil || o.rounds != 1 || len(o.systems) != 2 || len(o.sizes) != 2 || o.sizes[1] != 2048 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range [][]string{{"-sizes", "x"}, {"-rounds", "0"}, {"more"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
