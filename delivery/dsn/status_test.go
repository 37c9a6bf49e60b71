package dsn

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime/quotedprintable"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"holdfast/relay"
)

func decoder(encoding string, r io.Reader) io.Reader {
	if encoding == "quoted-printable" {
		return quotedprintable.NewReader(r)
	}
	return r
}

func readStatus(t testing.TB, body []byte) []textproto.MIMEHeader {
	t.Helper()
	var groups []textproto.MIMEHeader
	reader := textproto.NewReader(bufio.NewReader(bytes.NewReader(body)))
	for {
		group, err := reader.ReadMIMEHeader()
		if len(group) > 0 {
			groups = append(groups, group)
		}
		if errors.Is(err, io.EOF) {
			return groups
		}
		if err != nil {
			t.Fatalf("status part: %v\n%s", err, body)
		}
	}
}

func TestDue(t *testing.T) {
	tests := []struct {
		from, notify string
		want         bool
	}{
		{"", "", false},
		{"", "FAILURE", false},
		{"a@b.test", "", true},
		{"a@b.test", "NEVER", false},
		{"a@b.test", "FAILURE", true},
		{"a@b.test", "SUCCESS,failure", true},
		{"a@b.test", "DELAY, FAILURE", true},
		{"a@b.test", "SUCCESS,DELAY", false},
	}
	for _, tt := range tests {
		if got := Due(tt.from, tt.notify); got != tt.want {
			t.Errorf("Due(%q, %q) = %v, want %v", tt.from, tt.notify, got, tt.want)
		}
	}
}

func TestStatusCode(t *testing.T) {
	tests := []struct {
		name   string
		reason Reason
		f      *relay.Failure
		want   string
	}{
		{"the remote's own", Rejected, &relay.Failure{Code: 550, Enhanced: "5.7.1"}, "5.7.1"},
		{"the remote's own, temporary", Expired, &relay.Failure{Code: 452, Enhanced: "4.2.2"}, "4.2.2"},
		{"classes differ", Rejected, &relay.Failure{Code: 550, Enhanced: "4.2.2"}, "5.2.2"},
		{"without a reply", Rejected, &relay.Failure{Enhanced: "5.6.7"}, "5.6.7"},
		{"not a status", Rejected, &relay.Failure{Code: 550, Enhanced: "5.1"}, "5.0.0"},
		{"success is no status of a failure", Rejected, &relay.Failure{Code: 550, Enhanced: "2.1.5"}, "5.0.0"},
		{"none given", Rejected, &relay.Failure{Code: 554}, "5.0.0"},
		{"rejected without an attempt", Rejected, nil, "5.0.0"},
		{"expired, none given", Expired, &relay.Failure{Code: 451}, "4.4.7"},
		{"expired without an attempt", Expired, nil, "4.4.7"},
		{"returned, the last attempt's own", Returned, &relay.Failure{Code: 451, Enhanced: "4.2.2"}, "4.2.2"},
		{"returned without an attempt", Returned, nil, "5.0.0"},
		{"dns", Expired, &relay.Failure{Cause: relay.CauseDNS}, "4.4.3"},
		{"refused", Expired, &relay.Failure{Cause: relay.CauseRefused}, "4.4.1"},
		{"unreachable", Expired, &relay.Failure{Cause: relay.CauseUnreachable}, "4.4.1"},
		{"no connection in time", Expired, &relay.Failure{Cause: relay.CauseTimeout, Phase: relay.PhaseConnect}, "4.4.1"},
		{"no reply in time", Expired, &relay.Failure{Cause: relay.CauseTimeout, Phase: relay.PhaseDot}, "4.4.2"},
		{"closed", Expired, &relay.Failure{Cause: relay.CauseClosed}, "4.4.2"},
		{"tls", Expired, &relay.Failure{Cause: relay.CauseTLS}, "4.7.5"},
		{"auth", Expired, &relay.Failure{Cause: relay.CauseAuth}, "4.7.0"},
		{"unreadable", Expired, &relay.Failure{Cause: relay.CauseDeferred, Phase: relay.PhaseData, Own: true}, "4.3.0"},
	}
	for _, tt := range tests {
		if got := statusCode(tt.reason, tt.f); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestStatusFields(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Report)
		group  int
		field  string
		want   string // "" where the field must be absent
	}{
		{"ENVID", func(r *Report) { r.EnvID = "QQ 314" }, 0, "Original-Envelope-Id", "QQ 314"},
		{"no ENVID", func(*Report) {}, 0, "Original-Envelope-Id", ""},
		{"no ORCPT", func(*Report) {}, 1, "Original-Recipient", ""},
		{"ORCPT", func(r *Report) { r.Recipients[0].ORcpt = "rfc822;B+x@a.test" }, 1, "Original-Recipient", "rfc822;B+x@a.test"},
		{"ORCPT of type utf-8", func(r *Report) { r.Recipients[0].ORcpt = "utf-8;b+ü@a.test" }, 1, "Original-Recipient", `utf-8;b\x{2B}\x{FC}@a.test`},
		{"ORCPT of type utf-8 in ASCII", func(r *Report) { r.Recipients[0].ORcpt = "utf-8;b+x@a.test" }, 1, "Original-Recipient", `utf-8;b\x{2B}x@a.test`},
		{"ORCPT without a type", func(r *Report) { r.Recipients[0].ORcpt = "b@a.test" }, 1, "Original-Recipient", ""},
		{"ORCPT with a broken type", func(r *Report) { r.Recipients[0].ORcpt = "a b;b@a.test" }, 1, "Original-Recipient", ""},
		{"address in UTF-8, report in ASCII", func(r *Report) { r.Recipients[0].Address = `"a b+ü"@a.test` }, 1,
			"Final-Recipient", `utf-8;"a\x{20}b\x{2B}\x{FC}"@a.test`},
		{"address and report in UTF-8", func(r *Report) { r.SMTPUTF8, r.Recipients[0].Address = true, `ü\@a.test` }, 1,
			"Final-Recipient", `utf-8;ü\x{5C}@a.test`},
		{"reply in UTF-8, report in ASCII", func(r *Report) { r.Recipients[0].Failure.Text = "für" }, 1,
			"Diagnostic-Code", "smtp; 550 5.1.1 f?r"},
		{"reply of several lines", func(r *Report) { r.Recipients[0].Failure.Text = "No\r\nsuch\nuser" }, 1,
			"Diagnostic-Code", "smtp; 550 5.1.1 No such user"},
		{"no reply", func(r *Report) {
			r.Recipients[0].Failure = &relay.Failure{Cause: relay.CauseRefused, Phase: relay.PhaseConnect, Host: "h.test:25", Text: "refused"}
		}, 1, "Diagnostic-Code", "X-Holdfast; refused at connect with h.test:25: refused"},
		{"own finding", func(r *Report) { r.Recipients[0].Failure.Own = true }, 1,
			"Diagnostic-Code", "X-Holdfast; rejected at rcpt with mail.example.test:25: No such user here"},
		{"own finding, no remote MTA", func(r *Report) { r.Recipients[0].Failure.Own = true }, 1, "Remote-Mta", ""},
		{"own finding, status", func(r *Report) { r.Recipients[0].Failure.Own = true }, 1, "Status", "5.1.1"},
		{"delayed by a 5xx that is held", func(r *Report) { r.Reason = Delayed }, 1, "Status", "4.1.1"},
		{"delayed by a bare 5xx", func(r *Report) { r.Reason, r.Recipients[0].Failure.Enhanced = Delayed, "" }, 1, "Status", "4.0.0"},
		{"delayed without an attempt", func(r *Report) { r.Reason, r.Recipients[0].Failure = Delayed, nil }, 1, "Status", "4.0.0"},
		{"no reply, no remote MTA", func(r *Report) { r.Recipients[0].Failure.Code = 0 }, 1, "Remote-Mta", ""},
		{"remote MTA without its port", func(*Report) {}, 1, "Remote-Mta", "dns; mail.example.test"},
		{"date in UTC", func(r *Report) {
			r.Recipients[0].Failure.At = time.Date(2026, 10, 2, 16, 0, 0, 0, time.FixedZone("", 7200))
		}, 1, "Last-Attempt-Date", "Fri, 02 Oct 2026 14:00:00 +0000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := testReport(t)
			tt.change(&r)
			got, err := r.Render(strings.NewReader(original))
			if err != nil {
				t.Fatal(err)
			}
			group := readStatus(t, inspect(t, r, got)[1].body)[tt.group]
			if values := group[tt.field]; tt.want == "" && values != nil || group.Get(tt.field) != tt.want {
				t.Errorf("%s: %q, want %q", tt.field, values, tt.want)
			}
		})
	}
}
