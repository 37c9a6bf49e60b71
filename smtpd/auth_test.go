package smtpd

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"holdfast/password"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

const annsPassword = "correct horse"

// accountOf has a hash that is quick to judge.
func accountOf(t testing.TB, name, password string) *pb.AccountRecord {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return &pb.AccountRecord{Name: name, PasswordHash: string(hash), Revision: 7}
}

// startWithAnn is a server with TLS and one account.
func startWithAnn(t *testing.T) (*harness, *tls.Config) {
	t.Helper()
	return startWithAccounts(t, quickly)
}

// quickly is password.Matches without the time that it takes where there is no hash,
// which is most of a second under the race detector.
func quickly(hash, given string) bool { return hash != "" && password.Matches(hash, given) }

func startWithAccounts(t *testing.T, matches func(hash, given string) bool) (*harness, *tls.Config) {
	t.Helper()
	cert, pool := certificate(t, "mx.example.net")
	h := start(t, func(cfg *Config, c *cluster) {
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		cfg.GuessPause = time.Millisecond
		c.matches = matches
		c.accounts = map[string]*pb.AccountRecord{"ann@example.org": accountOf(t, "ann@example.org", annsPassword)}
	})
	return h, &tls.Config{ServerName: "mx.example.net", RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// secured is a client after STARTTLS and EHLO.
func (h *harness) secured(t *testing.T, config *tls.Config) *client {
	t.Helper()
	c := h.dial(t)
	c.want("220 ")
	c.ask("EHLO client.example", "250-")
	c.secure(config)
	c.ask("EHLO client.example", "250-")
	return c
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func plainOf(name, password string) string { return b64("\x00" + name + "\x00" + password) }

func TestAuth(t *testing.T) {
	h, config := startWithAnn(t)
	for name, steps := range map[string][]string{
		"PLAIN":                     {"AUTH PLAIN " + plainOf("ann@example.org", annsPassword), "235 2.7.0 "},
		"in upper and lower case":   {"auth plain " + plainOf("Ann@Example.org", annsPassword), "235 2.7.0 "},
		"for itself":                {"AUTH PLAIN " + b64("ann@example.org\x00ann@example.org\x00"+annsPassword), "235 2.7.0 "},
		"PLAIN when asked":          {"AUTH PLAIN", "334 ", plainOf("ann@example.org", annsPassword), "235 2.7.0 "},
		"LOGIN":                     {"AUTH LOGIN", "334 VXNlcm5hbWU6", b64("ann@example.org"), "334 UGFzc3dvcmQ6", b64(annsPassword), "235 2.7.0 "},
		"LOGIN with the name ahead": {"AUTH LOGIN " + b64("ann@example.org"), "334 UGFzc3dvcmQ6", b64(annsPassword), "235 2.7.0 "},
		"after a failure":           {"AUTH PLAIN =", "501 5.5.2 ", "AUTH PLAIN " + plainOf("ann@example.org", annsPassword), "235 2.7.0 "},
	} {
		t.Run(name, func(t *testing.T) {
			c := h.secured(t, config)
			for i := 0; i < len(steps); i += 2 {
				c.ask(steps[i], steps[i+1])
			}
			c.ask("AUTH PLAIN "+plainOf("ann@example.org", annsPassword), "503 5.5.1 ")
			before := len(h.accepted())
			c.ask("MAIL FROM:<a@example.com> AUTH=<>", "250 ")
			c.ask("RCPT TO:<b@elsewhere.example>", noRoute)
			h.setDomain(relay.DefaultRoute, true)
			c.ask("RCPT TO:<b@elsewhere.example>", "250 ")
			h.setDomain(relay.DefaultRoute, false)
			c.ask("RCPT TO:<b@example.org>", "250 ")
			c.ask("DATA", "354 ")
			c.send("x\r\n.\r\n")
			c.want("250 ")
			last := h.accepted()[before]
			if last.Origin.Account != "ann@example.org" || last.Origin.Protocol != "ESMTPSA" || !strings.Contains(string(last.body), " with ESMTPSA id ") {
				t.Errorf("%v\n%s", last.Origin, last.body)
			}
			c.ask("QUIT", "221 ")
		})
	}
	if good := h.metric(t, "holdfast_smtpd_authentications_total"); good != 7 {
		t.Errorf("%v authentications", good)
	}
	for _, about := range []string{"authenticated", "accepted"} {
		lines := h.lines(about)
		if len(lines) != 7 {
			t.Errorf("%d lines %q about 7 sessions", len(lines), about)
		}
		for _, line := range lines {
			wantAll(t, line, "account=ann@example.org")
		}
	}
}

func TestAuthRefusals(t *testing.T) {
	h, config := startWithAnn(t)
	for name, steps := range map[string][]string{
		"wrong password":      {"AUTH PLAIN " + plainOf("ann@example.org", "correct hoarse"), "535 5.7.8 wrong account or password"},
		"unknown account":     {"AUTH PLAIN " + plainOf("bob", annsPassword), "535 5.7.8 wrong account or password"},
		"no account's name":   {"AUTH PLAIN " + plainOf("a b", annsPassword), "535 5.7.8 wrong account or password"},
		"empty":               {"AUTH PLAIN " + plainOf("", ""), "535 5.7.8 "},
		"for another":         {"AUTH PLAIN " + b64("bob\x00ann@example.org\x00"+annsPassword), "535 5.7.8 wrong account or password"},
		"LOGIN":               {"AUTH LOGIN", "334 ", b64("bob"), "334 ", b64(annsPassword), "535 5.7.8 wrong account or password"},
		"empty LOGIN":         {"AUTH LOGIN =", "334 ", "", "535 5.7.8 "},
		"two parts":           {"AUTH PLAIN " + b64("ann\x00x"), "501 5.5.2 malformed"},
		"four parts":          {"AUTH PLAIN " + b64("\x00ann\x00x\x00"), "501 5.5.2 malformed"},
		"not base64":          {"AUTH PLAIN !", "501 5.5.2 not base64", "AUTH LOGIN", "334 ", "#", "501 5.5.2 not base64"},
		"= for an answer":     {"AUTH PLAIN", "334 ", "=", "501 5.5.2 not base64", "AUTH LOGIN", "334 ", b64("bob"), "334 ", "=", "501 5.5.2 not base64"},
		"* for no answer":     {"AUTH PLAIN *", "501 5.5.2 not base64"},
		"sent all the same":   {"AUTH CRAM-MD5", "504 ", b64("correct hoarse"), "500 5.5.1 ", b64("correct hoarse") + " x", "500 5.5.1 "},
		"cancelled":           {"AUTH PLAIN", "334 ", "*", "501 5.7.0 ", "AUTH LOGIN", "334 ", b64("ann"), "334 ", "*", "501 5.7.0 "},
		"too long":            {"AUTH PLAIN", "334 ", strings.Repeat("x", 3000), "500 5.5.6 ", "NOOP", "250 "},
		"unknown mechanism":   {"AUTH CRAM-MD5", "504 5.5.4 "},
		"no mechanism":        {"AUTH", "501 5.5.4 "},
		"in a transaction":    {"MAIL FROM:<a@example.com>", "250 ", "AUTH PLAIN", "503 5.5.1 "},
		"after HELO":          {"HELO x", "250 ", "AUTH PLAIN", "503 5.5.1 "},
		"an odd first sender": {"MAIL FROM:<a@example.com> AUTH=x", "501 5.5.4 ", "MAIL FROM:<a@example.com> AUTH", "501 5.5.4 ", "MAIL FROM:<a@example.com> AUTH=b+40example.com", "250 "},
	} {
		t.Run(name, func(t *testing.T) {
			c := h.secured(t, config)
			for i := 0; i < len(steps); i += 2 {
				c.ask(steps[i], steps[i+1])
			}
			c.ask("QUIT", "221 ")
		})
	}
	logs := h.logs.String()
	if !strings.Contains(logs, `command=AUTH reply="535 5.7.8 wrong account or password"`) || !strings.Contains(logs, "account=bob") {
		t.Errorf("no line about the refusals:\n%s", logs)
	}
	if !strings.Contains(logs, `command=? reply="500 5.5.1 unknown command"`) {
		t.Errorf("no line about a command that is none:\n%s", logs)
	}
	for _, secret := range []string{"hoarse", "correct", "a b", "$2a", b64("correct hoarse"), strings.ToUpper(b64("correct hoarse"))} {
		if strings.Contains(logs, secret) {
			t.Errorf("%q is in the log:\n%s", secret, logs)
		}
	}
}

// A password doesn't go in plain text, and without accounts nobody is asked for one.
func TestAuthIsOffered(t *testing.T) {
	h, config := startWithAnn(t)
	offered := func(c *client) bool {
		return strings.Contains(c.ask("EHLO client.example", "250-"), "AUTH PLAIN LOGIN")
	}
	c := h.dial(t)
	c.want("220 ")
	if offered(c) {
		t.Error("offered in plain text")
	}
	c.ask("AUTH PLAIN "+plainOf("ann@example.org", annsPassword), "538 5.7.11 ")
	c.ask("MAIL FROM:<a@example.com> AUTH=<>", "555 5.5.4 ")
	c.secure(config)
	c.ask("AUTH PLAIN", "503 5.5.1 ") // RFC 3207: EHLO is forgotten
	if !offered(c) {
		t.Error("not offered under TLS")
	}
	h.mu.Lock()
	clear(h.accounts)
	h.mu.Unlock()
	if offered(c) {
		t.Error("offered without an account")
	}
	c.ask("AUTH PLAIN", "502 5.5.1 ")
}

func TestGuessesEndTheSession(t *testing.T) {
	h, config := startWithAnn(t)
	c := h.secured(t, config)
	c.ask("AUTH PLAIN "+plainOf("ann@example.org", "guess one"), "535 5.7.8 ")
	c.ask("AUTH PLAIN "+plainOf("ann@example.org", "guess two"), "535 5.7.8 ")
	c.ask("AUTH PLAIN "+plainOf("ann@example.org", "guess three"), "421 4.7.0 ")
	if _, err := c.br.ReadByte(); err == nil {
		t.Error("the session goes on")
	}
	if bad := h.metric(t, "holdfast_smtpd_authentications_total"); bad != 3 {
		t.Errorf("%v counted", bad)
	}
}

// A node that may have missed something refuses nobody for good.
func TestAuthWithoutQuorum(t *testing.T) {
	h, config := startWithAnn(t)
	c := h.secured(t, config)
	h.setGate(&relay.Reply{Code: 451, Enhanced: "4.3.2", Text: "no quorum"})
	for _, password := range []string{annsPassword, "correct hoarse"} {
		c.ask("AUTH PLAIN "+plainOf("ann@example.org", password), "454 4.7.0 can't authenticate now: no quorum")
	}
	// It may have missed accounts, too.
	h.mu.Lock()
	accounts := h.accounts
	h.accounts = nil
	h.mu.Unlock()
	c.ask("AUTH PLAIN", "454 4.7.0 can't authenticate now: no quorum")
	h.mu.Lock()
	h.accounts = accounts
	h.mu.Unlock()
	h.setGate(nil)
	c.ask("AUTH PLAIN "+plainOf("ann@example.org", annsPassword), "235 ")
	if busy := h.metric(t, "holdfast_smtpd_authentications_total"); busy != 4 {
		t.Errorf("%v authentications counted", busy)
	}
}

// While a password waits for its slot, the account gets another one, or the node
// loses its lease: what holds when it is judged counts.
func TestAuthGoesByWhatHoldsWhenItIsJudged(t *testing.T) {
	h, config := startWithAnn(t)
	waiting := func(password string, change func(), want string) {
		t.Helper()
		c := h.secured(t, config)
		for range cap(h.server.guesses.slots) {
			h.server.guesses.slots <- struct{}{}
		}
		c.send("AUTH PLAIN " + plainOf("ann@example.org", password) + "\r\n")
		h.server.guesses.waitForTurn(t)
		change()
		for range cap(h.server.guesses.slots) {
			<-h.server.guesses.slots
		}
		c.want(want)
		c.ask("QUIT", "221 ")
	}
	const second = "battery staple"
	changed := accountOf(t, "ann@example.org", second)
	changed.Revision = 9
	passwd := func(record *pb.AccountRecord) func() {
		return func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.accounts["ann@example.org"] = record
		}
	}
	waiting(annsPassword, passwd(changed), "535 5.7.8 ")
	passwd(accountOf(t, "ann@example.org", annsPassword))()
	waiting(second, passwd(changed), "235 ")
	noQuorum := &relay.Reply{Code: 451, Enhanced: "4.3.2", Text: "no quorum"}
	waiting(annsPassword, func() { h.setGate(noQuorum) }, "454 4.7.0 can't authenticate now: no quorum")
}

// waitForTurn returns once somebody has an address's turn, so that its slot is all
// that it still needs.
func (g *guesses) waitForTurn(t *testing.T) {
	t.Helper()
	taken := func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, turn := range g.turns {
			if len(turn.taken) > 0 {
				return true
			}
		}
		return false
	}
	for deadline := time.Now().Add(10 * time.Second); !taken(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("nobody's password waits")
		}
	}
}

// A panic over one password leaves the slot and the turn to the next.
func TestPanicGivesTheSlotBack(t *testing.T) {
	cfg := DefaultConfig()
	cfg.GuessSlots, cfg.GuessPatience = 1, time.Second
	g := newGuesses(&cfg, t.Context)
	g.matches = func(_, given string) bool {
		if given == "odd" {
			panic("odd")
		}
		return true
	}
	guess := func(given string) (right, judged bool) {
		defer func() { _ = recover() }()
		return g.judge(netip.MustParseAddr("192.0.2.1"), given, func() (string, bool) { return "hash", true })
	}
	guess("odd")
	if right, judged := guess("right"); !right || !judged {
		t.Errorf("after a panic: right %v, judged %v", right, judged)
	}
}

// A session that is open ends with its next message once its account is removed or
// has another password; a message under way goes on.
func TestAccountChangesUnderASession(t *testing.T) {
	h, config := startWithAnn(t)
	for name, change := range map[string]func(){
		"removed":          func() { delete(h.accounts, "ann@example.org") },
		"another password": func() { h.accounts["ann@example.org"].Revision = 9 },
	} {
		t.Run(name, func(t *testing.T) {
			h.mu.Lock()
			h.accounts = map[string]*pb.AccountRecord{"ann@example.org": accountOf(t, "ann@example.org", annsPassword)}
			h.mu.Unlock()
			c := h.secured(t, config)
			c.ask("AUTH PLAIN "+plainOf("ann@example.org", annsPassword), "235 ")
			c.envelope()
			h.mu.Lock()
			old := h.accounts["ann@example.org"]
			h.accounts["ann@example.org"] = &pb.AccountRecord{Name: old.Name, PasswordHash: old.PasswordHash, Revision: old.Revision}
			change()
			h.mu.Unlock()
			c.ask("DATA", "354 ")
			c.send("x\r\n.\r\n")
			c.want("250 ")
			// AUTH= is as good as when EHLO offered it, though no account may be left,
			// and a node that can't vouch for its state puts the client off.
			h.setGate(&relay.Reply{Code: 451, Enhanced: "4.3.2", Text: "no quorum"})
			c.ask("MAIL FROM:<a@example.com> AUTH=<>", "451 4.3.2 no quorum")
			h.setGate(nil)
			c.ask("MAIL FROM:<a@example.com> AUTH=<>", "421 4.7.0 ")
			if _, err := c.br.ReadByte(); err == nil {
				t.Error("the session goes on")
			}
		})
	}
}

// While one password is judged, another client's waits for the slot, and one more
// of the same client for its turn: neither for ever.
func TestGuessesAreBounded(t *testing.T) {
	judging, judged := make(chan struct{}), make(chan struct{})
	cfg := DefaultConfig()
	cfg.GuessSlots, cfg.GuessPatience, cfg.GuessPause = 1, 100*time.Millisecond, time.Hour
	ctx, stop := context.WithCancel(t.Context())
	g := newGuesses(&cfg, func() context.Context { return ctx })
	g.matches = func(_, given string) bool {
		judging <- struct{}{}
		<-judged
		return given == "right"
	}
	guess := func(client, given string) <-chan [2]bool {
		answer := make(chan [2]bool, 1)
		go func() {
			right, known := g.judge(netip.MustParseAddr(client), given, func() (string, bool) { return "hash", true })
			answer <- [2]bool{right, known}
		}()
		return answer
	}
	first := guess("192.0.2.1", "wrong")
	<-judging
	for _, client := range []string{"192.0.2.1", "198.51.100.1"} {
		if got := <-guess(client, "right"); got != [2]bool{false, false} {
			t.Errorf("%s is judged beside the first: %v", client, got)
		}
	}
	judged <- struct{}{}
	// The first waits for the pause now, with its turn and without its slot.
	for len(g.slots) > 0 {
		runtime.Gosched()
	}
	second := guess("198.51.100.1", "right")
	<-judging
	judged <- struct{}{}
	if got := <-second; got != [2]bool{true, true} {
		t.Errorf("another client's: %v", got)
	}
	if got := <-guess("192.0.2.1", "right"); got != [2]bool{false, false} {
		t.Errorf("the first client's next within the pause: %v", got)
	}
	stop()
	if got := <-first; got != [2]bool{false, true} {
		t.Errorf("the first: %v", got)
	}
	if len(g.turns) != 0 {
		t.Errorf("%d turns are kept", len(g.turns))
	}
}

func FuzzParsePlain(f *testing.F) {
	for _, seed := range []string{"", "\x00ann\x00secret", "ann\x00ann\x00x", "bob\x00ann\x00x", "a\x00b", "\x00\x00\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, message string) {
		claimed, err := parsePlain(message)
		if (err == nil) != (strings.Count(message, "\x00") == 2) {
			t.Fatalf("%q: %v", message, err)
		}
		if err == nil && claimed.name != "" && !strings.HasSuffix(message, "\x00"+claimed.name+"\x00"+claimed.password) {
			t.Errorf("%q is read as %q", message, claimed)
		}
	})
}
