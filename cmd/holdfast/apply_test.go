package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

func TestApplyGolden(t *testing.T) {
	for name, c := range map[string]struct {
		file   string
		args   string
		status int
	}{
		"apply_wrong":        {"apply_wrong.toml", "--yes", exitUsage},
		"apply_syntax":       {"apply_syntax.toml", "--yes", exitUsage},
		"apply_dry_run":      {"apply_other.toml", "--dry-run --prune", exitDone},
		"apply_dry_run_json": {"apply_other.toml", "--dry-run --prune --json", exitDone},
		"apply_yes":          {"apply_other.toml", "--yes", exitDone},
	} {
		t.Run(name, func(t *testing.T) {
			w := admintest.Start(t)
			w.Configure()
			r := shellFor(w).run(t, append([]string{"apply", "-f", "testdata/" + c.file}, strings.Fields(c.args)...)...)
			if r.status != c.status {
				t.Errorf("status %d", r.status)
			}
			if strings.HasSuffix(c.args, "--json") {
				wantJSONLines(t, r.out)
			}
			if strings.Contains(r.out+r.err, "secret") {
				t.Error("it shows a password")
			}
			compare(t, name+".txt", r.out+r.err)
		})
	}
}

func TestApplyAsks(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	sh := shellFor(w)
	const file = "testdata/apply_other.toml"
	wantError(t, sh.run(t, "apply"), exitUsage, "say which file")
	wantError(t, sh.run(t, "apply", "-f", file), exitUsage, "add --yes, or --dry-run")
	wantError(t, sh.run(t, "apply", "-f", "nowhere.toml", "--yes"), exitUsage, "no such file")
	sh.terminal = true
	wantError(t, sh.run(t, "apply", "-f", "-"), exitUsage, "add --yes, or --dry-run")
	sh.in = "n\n"
	r := sh.run(t, "apply", "-f", file)
	wantError(t, r, exitFailed, "not confirmed, nothing was changed")
	if !strings.Contains(r.out, "~ settings\n    ~ warn_pending = 10000 -> 7\n") || w.State.Settings().WarnPending == 7 {
		t.Errorf("%s", r.out)
	}
	sh.in = "y\n"
	r = sh.run(t, "apply", "-f", file)
	if r.status != exitDone || w.State.Settings().WarnPending != 7 || strings.Count(r.out, "~ settings") != 1 {
		t.Errorf("%+v", r)
	}
	if r = sh.run(t, "apply", "-f", file); r.status != exitDone || !strings.HasPrefix(r.out, "~ destination one\n    ~ auth_password") && !strings.HasPrefix(r.out, "nothing to change") {
		t.Errorf("%+v", r)
	}
}

// An export goes through a pipe back into the cluster.
func TestExportThroughAPipe(t *testing.T) {
	w := admintest.StartImpatient(t, 50*time.Millisecond)
	w.FoldAs(0, 0, &pb.Event{Kind: &pb.Event_ClusterCreated{ClusterCreated: &pb.ClusterCreated{ClusterId: "cluster"}}}, nil)
	w.Configure()
	sh := shellFor(w)
	export := sh.run(t, "export")
	compare(t, "export.txt", export.out)
	sh.in = export.out
	if r := sh.run(t, "apply", "-f", "-", "--yes", "--prune"); r.status != exitDone || !strings.HasPrefix(r.out, "nothing to change") {
		t.Errorf("%+v", r)
	}
	name := filepath.Join(t.TempDir(), "holdfast.toml")
	if err := os.WriteFile(name, []byte(strings.Replace(export.out, "slots = 20", "slots = 21", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := sh.run(t, "destination", "set", "one", "--slots", "5"); r.status != exitDone {
		t.Fatal(r.err)
	}
	r := sh.run(t, "apply", "-f", name, "--yes")
	wantError(t, result{status: r.status, err: lastLine(r.err)}, exitFailed, "1 change made since the file's revision 7 would be overwritten, nothing was changed")
	if !strings.Contains(r.err, "holdfast.toml:27: destination one was changed by local user ") || !strings.Contains(r.err, "slots 20 -> 5") {
		t.Error(r.err)
	}
	w.LoseQuorum(admintest.ErrNoQuorum)
	if r := sh.run(t, "apply", "-f", name, "--yes", "--force"); r.status != exitNoAnswer {
		t.Errorf("%+v", r)
	}
	// Also where it is as the node here has it.
	now := sh.run(t, "export")
	if err := os.WriteFile(name, []byte(now.out), 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, sh.run(t, "apply", "-f", name, "--yes"), exitNoAnswer, "no quorum, or this node is behind: nothing was changed")
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1] + "\n"
}
