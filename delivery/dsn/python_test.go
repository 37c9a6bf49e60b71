package dsn

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const pythonReader = `
import email, email.policy, json, sys
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTP)
text, status, returned = m.get_payload()
json.dump({
    "type": m.get_content_type(),
    "report": m.get_param("report-type"),
    "to": str(m["To"]),
    "references": str(m["References"]),
    "text": text.get_content(),
    "groups": [dict(g.items()) for g in status.get_payload()],
    "returned": returned.get_content_type(),
    "subject": str((returned.get_payload()[0] if returned.is_multipart() else email.message_from_string(returned.get_payload()))["Subject"]),
    "defects": [str(d) for p in m.walk() for d in p.defects],
}, sys.stdout)
`

// TestPythonReadsAll has another implementation read the golden reports.
func TestPythonReadsAll(t *testing.T) {
	for name, want := range map[string]struct{ action, status, returned string }{
		"rejected":      {"failed", "5.1.1", "message/rfc822"},
		"rejected-hdrs": {"failed", "5.1.1", "text/rfc822-headers"},
		"expired":       {"failed", "4.4.7", "message/rfc822"},
		"delayed":       {"delayed", "4.0.0", "text/rfc822-headers"},
		"relayed":       {"relayed", "2.0.0", "text/rfc822-headers"},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := os.ReadFile(filepath.Join("testdata", name+".eml"))
			if err != nil {
				t.Fatal(err)
			}
			got := readByPython(t, report)
			if got.Report != "delivery-status" || got.Returned != want.returned || len(got.Groups) < 2 ||
				got.Groups[1]["Action"] != want.action || got.Groups[1]["Status"] != want.status || len(got.Defects) != 0 {
				t.Errorf("read as %+v", got)
			}
		})
	}
}

// TestPythonReads has another implementation read a report.
func TestPythonReads(t *testing.T) {
	r := testReport(t)
	r.EnvID = "QQ314159"
	r.Recipients[0].Failure.Text = strings.Repeat("Niemand heißt hier so. ", 20)
	report, err := r.Render(strings.NewReader(original))
	if err != nil {
		t.Fatal(err)
	}
	got := readByPython(t, report)
	if got.Type != "multipart/report" || got.Report != "delivery-status" || got.To != "alice@sender.test" ||
		got.References != "<plan-1@sender.test>" || got.Returned != "message/rfc822" || got.Subject != "the plan" {
		t.Errorf("read as %+v", got)
	}
	if !strings.Contains(got.Text, "Niemand heißt hier so.") {
		t.Errorf("the reply is missing in: %s", got.Text)
	}
	if len(got.Groups) != 2 || got.Groups[0]["Original-Envelope-Id"] != "QQ314159" ||
		got.Groups[1]["Status"] != "5.1.1" || got.Groups[1]["Final-Recipient"] != "rfc822;bob@example.test" {
		t.Errorf("status fields read as %v", got.Groups)
	}
	if len(got.Defects) != 0 {
		t.Errorf("defects: %q", got.Defects)
	}
}

// pythonRead is a report as Python's email package reads it.
type pythonRead struct {
	Type, Report, To, References, Text, Returned, Subject string
	Groups                                                []map[string]string
	Defects                                               []string
}

func readByPython(t *testing.T, report []byte) pythonRead {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed: apt-get install python3-minimal")
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", pythonReader)
	cmd.Stdin = bytes.NewReader(report)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if strings.Contains(stderr.String(), "No module named 'email'") {
		t.Skip("python3 has no email package: apt-get install python3")
	}
	if err != nil {
		t.Fatalf("python3: %v\n%s", err, stderr.String())
	}
	var got pythonRead
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return got
}
