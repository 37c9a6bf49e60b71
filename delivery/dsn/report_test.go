package dsn

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"holdfast/relay"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const original = "Received: from client.test by mx-a.example.net; Fri, 02 Oct 2026 14:03:20 +0000\r\n" +
	"From: Alice <alice@sender.test>\r\n" +
	"To: bob@example.test\r\n" +
	"Subject: the plan\r\n" +
	"Message-ID: <plan-1@sender.test>\r\n" +
	"\r\n" +
	"Dear Bob,\r\nhere is the plan.\r\n"

func testID(t testing.TB, s string) relay.MessageID {
	t.Helper()
	id, err := relay.ParseMessageID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// testReport is a rejection of bob@example.test; tests change what they are about.
func testReport(t testing.TB) Report {
	t.Helper()
	arrived := time.Date(2026, 10, 2, 14, 3, 20, 0, time.UTC)
	return Report{
		ID:              testID(t, "01JZ0000000000000000000REP"),
		Date:            arrived.Add(3 * time.Second),
		ReportingMTA:    "mx-a.example.net",
		To:              "alice@sender.test",
		ArrivalDate:     arrived,
		OriginalID:      testID(t, "01JZ00000000000000000000RG"),
		HeaderMessageID: "<plan-1@sender.test>",
		Recipients: []Recipient{{
			Address: "bob@example.test",
			Failure: &relay.Failure{
				Cause: relay.CauseRejected, Phase: relay.PhaseRcpt, Host: "mail.example.test:25",
				Code: 550, Enhanced: "5.1.1", Text: "No such user here", At: arrived.Add(2 * time.Second),
			},
		}},
	}
}

func TestGolden(t *testing.T) {
	deferred := &relay.Failure{
		Cause: relay.CauseDeferred, Phase: relay.PhaseData, Host: "mail.example.test:25", Code: 451,
		Text: "Greylisted, please come back in an hour; see our policy page for the reasons why we do this to you",
		At:   time.Date(2026, 10, 7, 14, 1, 0, 0, time.UTC),
	}
	lately := *deferred
	lately.At = time.Date(2026, 10, 2, 17, 40, 0, 0, time.UTC)
	tests := []struct {
		name     string
		change   func(*Report)
		original string
	}{
		{name: "rejected", original: original},
		{name: "rejected-hdrs", original: original, change: func(r *Report) {
			r.Ret, r.EnvID = "HDRS", "QQ314159"
			r.Recipients[0].ORcpt = "rfc822;robert@example.test"
		}},
		{name: "rejected-own", original: original, change: func(r *Report) {
			r.Recipients[0].Failure = &relay.Failure{
				Cause: relay.CauseRejected, Phase: relay.PhaseMail, Host: "mail.example.test:25", Code: 554, Enhanced: "5.6.1",
				Text: "message declared 8BITMIME, which the next hop does not support", At: r.Date, Own: true,
			}
			r.Recipients = append(r.Recipients, Recipient{Address: "carol@nomail.test", Failure: &relay.Failure{
				Cause: relay.CauseDNS, Phase: relay.PhaseDNS, Code: 556, Enhanced: "5.1.10", Text: "nomail.test takes no mail (null MX)",
				At: r.Date, Own: true,
			}})
		}},
		{name: "expired-own", original: original, change: func(r *Report) {
			r.Reason, r.Date, r.Ret = Expired, r.ArrivalDate.Add(5*24*time.Hour), "HDRS"
			r.Recipients[0].Failure = &relay.Failure{
				Cause: relay.CauseDeferred, Phase: relay.PhaseMail, Host: "mail.example.test:25", Code: 451, Enhanced: "4.5.0",
				Text: "message declared 8BITMIME, and the next hop answered EHLO with 502 instead of what it supports", At: deferred.At, Own: true,
			}
			r.Recipients = append(r.Recipients, Recipient{Address: "carol@example.test", Failure: deferred})
		}},
		{name: "delayed-rejected", original: original, change: func(r *Report) {
			r.Reason, r.Date = Delayed, r.ArrivalDate.Add(4*time.Hour)
			r.Recipients[0].RetryUntil = r.ArrivalDate.Add(5 * 24 * time.Hour)
		}},
		{name: "expired", original: original, change: func(r *Report) {
			r.Reason, r.Date = Expired, r.ArrivalDate.Add(5*24*time.Hour)
			r.Recipients[0].Failure = deferred
			r.Recipients = append(r.Recipients,
				Recipient{Address: "carol@example.test", Failure: &relay.Failure{
					Cause: relay.CauseTimeout, Phase: relay.PhaseDot, Host: "[192.0.2.7]:25", Text: "i/o timeout",
					At: deferred.At, InDoubt: true,
				}},
				Recipient{Address: "dave@example.test", Failure: &relay.Failure{
					Cause: relay.CauseDNS, Phase: relay.PhaseDNS, Text: "lookup mail.example.test: no such host", At: deferred.At,
				}},
				Recipient{Address: "erin@example.test"})
		}},
		{name: "delayed", original: original, change: func(r *Report) {
			r.Reason, r.Date, r.Ret = Delayed, r.ArrivalDate.Add(4*time.Hour), "FULL"
			r.Recipients[0].Failure, r.Recipients[0].RetryUntil = &lately, r.ArrivalDate.Add(5*24*time.Hour)
			r.Recipients = append(r.Recipients, Recipient{Address: "erin@example.test", RetryUntil: r.ArrivalDate.Add(5 * 24 * time.Hour)})
		}},
		{name: "relayed", original: original, change: func(r *Report) {
			r.Reason, r.EnvID = Relayed, "QQ314159"
			r.Recipients[0] = Recipient{
				Address: "bob@example.test", ORcpt: "rfc822;robert@example.test",
				Host: "mail.example.test:25", Reply: "250 2.0.0 Ok: queued as 12345",
			}
		}},
		{name: "smtputf8-delayed", original: strings.Replace(original, "Subject: the plan", "Subject: der Plan für Grün", 1), change: func(r *Report) {
			r.Reason, r.Date, r.SMTPUTF8 = Delayed, r.ArrivalDate.Add(4*time.Hour), true
			r.Recipients[0] = Recipient{Address: "grün@example.test", Failure: &lately, RetryUntil: r.ArrivalDate.Add(5 * 24 * time.Hour)}
		}},
		{name: "smtputf8", original: strings.Replace(original, "Subject: the plan", "Subject: der Plan für Grün", 1), change: func(r *Report) {
			r.SMTPUTF8, r.To, r.Ret = true, "alíce@sender.test", "FULL"
			r.Recipients[0].Address = "grün@example.test"
			r.Recipients[0].ORcpt = "utf-8;grün@example.test"
			r.Recipients[0].Failure.Text = "Den Nutzer »grün« gibt es nicht"
		}},
		{name: "smtputf8-hdrs", original: strings.Replace(original, "Subject: the plan", "Subject: der Plan für Grün", 1), change: func(r *Report) {
			r.SMTPUTF8, r.Ret = true, "HDRS"
		}},
		{name: "8bit-headers", original: strings.Replace(original, "Subject: the plan", "Subject: der Plan f\xfcr Gr\xfcn", 1), change: func(r *Report) {
			r.Ret = "HDRS"
			r.Recipients[0].Failure.Text = "Den Nutzer »grün« gibt es nicht"
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := testReport(t)
			if tt.change != nil {
				tt.change(&r)
			}
			got, err := r.Render(strings.NewReader(tt.original))
			if err != nil {
				t.Fatal(err)
			}
			inspect(t, r, got)
			path := filepath.Join("testdata", tt.name+".eml")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("report differs from %s (go test -update rewrites it):\n%s", path, got)
			}
		})
	}
}

// The sample in the docs is what the program writes.
func TestSampleInDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/reports.md")
	if err != nil {
		t.Fatal(err)
	}
	sample, err := os.ReadFile("testdata/expired.eml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(page, bytes.ReplaceAll(sample, []byte("\r\n"), []byte("\n"))) {
		t.Error("docs/reports.md doesn't have testdata/expired.eml as its sample")
	}
}

func TestRenderSaysWhatIsWrong(t *testing.T) {
	r := testReport(t)
	broken := errors.New("disk on fire")
	if _, err := r.Render(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("with a reader that fails: error %v, want %v", err, broken)
	}
	for _, n := range []int{0, MaxRecipients + 1} {
		r.Recipients = make([]Recipient, n)
		if _, err := r.Render(strings.NewReader(original)); err == nil {
			t.Errorf("with %d recipients: no error", n)
		}
	}
}

func TestRenderIsRepeatable(t *testing.T) {
	r := testReport(t)
	a, err := r.Render(strings.NewReader(original))
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Render(strings.NewReader(original))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("the same report was rendered to different bytes")
	}
}

func TestGuessedBoundary(t *testing.T) {
	r := testReport(t)
	guess := "=_" + r.ID.String() + ".0"
	r.Recipients[0].Failure.Text = "--" + guess + "--"
	got, err := r.Render(strings.NewReader(original + "--" + guess + "\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	inspect(t, r, got)
}

// TestLongest fills every field to the brim: the bounds on single fields must
// add up to less than MaxSize, with room for headers.
func TestLongest(t *testing.T) {
	for name, letter := range map[string]string{"ascii": "x", "words": "x ", "utf8": "ü"} {
		for _, n := range []int{1, fewRecipients, fewRecipients + 1, MaxRecipients} {
			for _, international := range []bool{false, true} {
				r := testReport(t)
				long := strings.Repeat(letter, 3000)
				r.SMTPUTF8, r.EnvID, r.HeaderMessageID, r.ReportingMTA = international, long, "<"+long+">", long
				r.Recipients = make([]Recipient, n)
				for i := range r.Recipients {
					r.Recipients[i] = Recipient{Address: long, ORcpt: "rfc822;" + long, Failure: &relay.Failure{
						Host: long, Code: 550, Text: long, At: r.Date, InDoubt: true,
					}}
				}
				headers := strings.Repeat("X-Filler: "+strings.Repeat("é", 400)+"\r\n", 200)
				got, err := r.Render(strings.NewReader(headers + "\r\n"))
				if err != nil {
					t.Fatalf("%s, %d recipients: %v", name, n, err)
				}
				parts := inspect(t, r, got)
				if len(parts[2].body) < 8<<10 {
					t.Errorf("%s, %d recipients: only %d bytes of headers returned", name, n, len(parts[2].body))
				}
			}
		}
	}
}

func TestReturned(t *testing.T) {
	long := "Subject: long\r\n\r\n" + strings.Repeat("line\r\n", maxReturned/6+1)
	fits := long[:maxReturned-3] + "end"
	headersOnly := "Subject: " + strings.Repeat("word ", 30) + "\r\n"
	tests := []struct {
		name, ret, original string
		wantType, want      string
	}{
		{"without RET the message", "", original, "message/rfc822", original},
		{"FULL", "FULL", original, "message/rfc822", original},
		{"HDRS", "HDRS", original, "text/rfc822-headers", original[:strings.Index(original, "Dear")-2]},
		{"HDRS in lower case", "hdrs", "A: b\r\n\r\nbody", "text/rfc822-headers", "A: b\r\n"},
		{"too long for FULL", "FULL", long, "text/rfc822-headers", "Subject: long\r\n"},
		{"as long as may be", "FULL", fits, "message/rfc822", fits},
		{"8-bit body", "", "A: b\r\n\r\nf\xfcr\r\n", "message/rfc822", "A: b\r\n\r\nf\xfcr\r\n"},
		{"binary body", "FULL", "A: b\r\n\r\n\x00\x01", "text/rfc822-headers", "A: b\r\n"},
		{"bare LF in body", "FULL", "A: b\r\n\r\nx\ny\r\n", "text/rfc822-headers", "A: b\r\n"},
		{"bare CR in body", "FULL", "A: b\r\n\r\nx\ry\r\n", "text/rfc822-headers", "A: b\r\n"},
		{"line too long in body", "", "A: b\r\n\r\n" + strings.Repeat("x", 999), "text/rfc822-headers", "A: b\r\n"},
		{"bare LF in headers", "", "A: b\nC: d\n\nbody", "text/rfc822-headers", "A: b\r\nC: d\r\n"},
		{"line too long in headers", "", "A: " + strings.Repeat("x", 999) + "\r\n\r\n", "text/rfc822-headers", "A: " + strings.Repeat("x", 999) + "\r\n"},
		{"headers only", "", headersOnly, "message/rfc822", headersOnly},
		{"empty header section", "HDRS", "\r\nbody\r\n", "text/rfc822-headers", ""},
		{"nothing", "", "", "message/rfc822", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := testReport(t)
			r.Ret = tt.ret
			got, err := r.Render(strings.NewReader(tt.original))
			if err != nil {
				t.Fatal(err)
			}
			p := inspect(t, r, got)[2]
			if p.kind != tt.wantType || string(p.body) != tt.want {
				t.Errorf("returned %s with %d bytes %.80q, want %s with %d bytes %.80q",
					p.kind, len(p.body), p.body, tt.wantType, len(tt.want), tt.want)
			}
		})
	}
}

func TestHeaderSectionLongerThanTheReport(t *testing.T) {
	line := "X-Filler: " + strings.Repeat("x", 60) + "\r\n"
	r := testReport(t)
	got, err := r.Render(strings.NewReader(strings.Repeat(line, 2000) + "\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	body := string(inspect(t, r, got)[2].body)
	if want := strings.Repeat(line, maxReturned/len(line)); body != want {
		t.Errorf("returned %d bytes of headers, want the %d that are whole lines", len(body), len(want))
	}
}
