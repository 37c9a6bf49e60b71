package smtpout_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"holdfast/relay"
)

const smtpSink = "/usr/sbin/smtp-sink"

// startSMTPSink runs Postfix's test server and returns its address.
func startSMTPSink(t *testing.T, options ...string) string {
	t.Helper()
	if _, err := os.Stat(smtpSink); err != nil {
		t.Skipf("no peer of another make: %v (Debian's package postfix has it)", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	if os.Geteuid() == 0 {
		options = append(options, "-u", "postfix")
	}
	var output strings.Builder
	command := exec.Command(smtpSink, append(options, address, "10")...)
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := command.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = command.Wait() // killed: the status says so
	})
	if err := awaitListener(testContext(t), address); err != nil {
		t.Fatalf("smtp-sink %s: %v", output.String(), err)
	}
	return address
}

func awaitListener(ctx context.Context, address string) error {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return err
		}
	}
}

func TestPostfixTakesMail(t *testing.T) {
	for _, options := range [][]string{nil, {"-p"}, {"-e"}, {"-8", "-N", "-E"}, {"-P"}} {
		address := startSMTPSink(t, options...)
		conn := connect(t, newDialer(), address)
		for _, content := range []string{"x\r\n", "", ".\r\n..\r\n", strings.Repeat("a line\r\n", 100_000)} {
			wantAccepted(t, conn.Send(testContext(t), message(content, "a@x", "b@x")))
		}
		if !conn.Alive() {
			t.Errorf("%v: connection not kept", options)
		}
	}
}

func TestPostfixFaults(t *testing.T) {
	phases := map[string]relay.Phase{
		"CONNECT": relay.PhaseGreeting, "EHLO": relay.PhaseEHLO,
		"MAIL": relay.PhaseMail, "RCPT": relay.PhaseRcpt, "DATA": relay.PhaseData, ".": relay.PhaseDot,
	}
	tests := []struct {
		option string
		want   want
	}{
		{"-f", want{cause: relay.CauseRejected, code: 500}},
		{"-r", want{cause: relay.CauseDeferred, code: 450}},
		{"-q", want{cause: relay.CauseClosed}},
		{"-Q", want{cause: relay.CauseDeferred, code: 421}},
	}
	for _, test := range tests {
		for verb, phase := range phases {
			if test.option == "-f" && verb == "EHLO" {
				continue // means HELO: TestPostfixKnowsNoEHLO
			}
			t.Run(test.option+" "+verb, func(t *testing.T) {
				w := test.want
				w.phase = phase
				w.inDoubt = test.option == "-q" && verb == "."
				wantFailure(t, attempt(t, startSMTPSink(t, test.option, verb)), w)
			})
		}
	}
}

// attempt connects and sends, and returns what failed.
func attempt(t *testing.T, address string) *relay.Failure {
	t.Helper()
	conn, err := newDialer().Connect(testContext(t), address, relay.TLSNone, nil)
	if err != nil {
		failure, _ := errors.AsType[*relay.Failure](err)
		return failure
	}
	defer conn.Close()
	return conn.Send(testContext(t), message("x\r\n")).Outcomes[0].Failure
}

func TestPostfixKnowsNoEHLO(t *testing.T) {
	if f := attempt(t, startSMTPSink(t, "-f", "EHLO")); f != nil {
		t.Error(f)
	}
}

func TestPostfixRefusesEarly(t *testing.T) {
	// 550 right after 354, and not one octet of the content is read.
	d := newDialer()
	conn := connect(t, d, startSMTPSink(t, "-A", "0"))
	result := conn.Send(testContext(t), message(strings.Repeat("a line\r\n", 4_000_000)))
	f := result.Outcomes[0].Failure
	if f == nil || f.Code != 550 || f.Phase != relay.PhaseData || f.InDoubt {
		t.Errorf("failure %v, want 550 at data", f)
	}
}
