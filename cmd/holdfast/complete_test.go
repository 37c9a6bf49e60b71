package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// offered is what completion says at the end of a line, without descriptions. A
// line that ends in a space completes a new word.
func (s shell) offered(t *testing.T, line string) (names []string, directive string) {
	t.Helper()
	args := strings.Fields(line)
	if strings.HasSuffix(line, " ") {
		args = append(args, "")
	}
	r := s.run(t, append([]string{cobra.ShellCompRequestCmd}, args...)...)
	if r.status != exitDone {
		t.Errorf("%s: %+v", line, r)
	}
	for text := range strings.Lines(r.out) {
		name, _, _ := strings.Cut(strings.TrimSuffix(text, "\n"), "\t")
		if number, found := strings.CutPrefix(name, ":"); found {
			directive = number
			continue
		}
		names = append(names, name)
	}
	// The shells drop it; anything else would stand in the middle of the line.
	if n := strings.Count(r.err, "\n"); n != 1 || !strings.HasPrefix(r.err, "Completion ended with directive") {
		t.Errorf("%s: stderr %q", line, r.err)
	}
	return names, directive
}

func TestCompletion(t *testing.T) {
	w, ids := scene(t)
	w.Fold(&pb.Event{Kind: &pb.Event_PolicySet{PolicySet: &pb.PolicySet{Policy: &pb.PolicyConfig{
		Name: "own", Retention: int64(time.Hour), Phases: []*pb.PolicyConfig_Phase{{Until: int64(time.Hour), Every: int64(time.Hour), Factor: 1000}},
	}}}}, nil)
	w.Fold(&pb.Event{Kind: &pb.Event_AccountSet{AccountSet: &pb.AccountSet{Name: "app", PasswordHash: "x"}}}, nil)
	sh := shellFor(w)
	if r := sh.run(t, "recipient", "add", "l@one.test", "m@one.test"); r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	deferred, waiting, down, done := ids["DEFERRED"], ids["WAITING"], ids["DOWN"], ids["DONE"]
	for _, test := range []struct{ line, want string }{
		{"domain show ", "one.test two.test"}, {"domain set o", "one.test"}, {"domain show one.test ", ""},
		{"destination suspend ", "one two"}, {"destination test t", "two"}, {"destination set ", "one two"},
		{"domain set new.test --destination ", "one two"}, {"domain set new.test --destination=o", "one"},
		{"domain set new.test --policy e", "eleven"}, {"policy show ste", "stepped"}, {"policy remove ", "own"},
		{"recipient list ", "one.test two.test"}, {"recipient import o", "one.test"}, {"recipient remove --all ", "one.test two.test"},
		{"recipient remove ", ""}, {"recipient remove l@one.test", "l@one.test"}, {"domain set one.test --verify l", "listed"},
		{"cluster remove ", "a b c"}, {"node drain ", "a b c"}, {"cluster transfer a ", ""},
		{"cluster drill ", "disk-full kill-leader partition pause"}, {"cluster drill pause ", "a b c"}, {"cluster drill kill-leader ", ""},
		{"queue show ", deferred + " " + waiting + " " + down}, {"queue retry " + waiting + " ", deferred + " " + down},
		{"queue release ", ""}, {"queue thaw ", ""}, {"queue show " + down[:24], down}, {"queue show zz", ""}, {"queue show U", ""},
		{"log show ", done + " " + deferred + " " + waiting + " " + down}, {"log search --id " + done[:23] + "Z", ""},
		{"log search --id " + done[:25], done}, {"queue list --domain t", "two.test"},
		{"queue redirect --destination-new ", "one two"}, {"queue list --state fr", "frozen"}, {"queue count --by ", "destination domain"},
		{"token create --role o", "operator"}, {"token revoke ", ""}, {"account remove a", "app"}, {"account passwd app ", ""}, {"dev --destination ", ""}, {"queue list ", ""},
		{"status --watch ", ""}, {"nonsense ", ""},
	} {
		got, directive := sh.offered(t, test.line)
		want := strings.Fields(test.want)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: offered %q, want %q", test.line, got, want)
		}
		if directive != "4" && test.line != "nonsense " { // no names of files
			t.Errorf("%s: directive %s", test.line, directive)
		}
	}
	for line, want := range map[string]string{"apply -f ": "0", "snapshot inspect ": "0", "status --tls-ca ": "0", "tls init --dir ": "16"} {
		if _, directive := sh.offered(t, line); directive != want {
			t.Errorf("%s: directive %s", line, directive)
		}
	}
	if got, _ := sh.offered(t, "queue "); !slices.Contains(got, "list") || slices.Contains(got, "help") {
		t.Errorf("commands offered: %q", got)
	}
}

// Whoever may not see a name isn't offered it: the node doesn't list it.
func TestCompletionOfACustomer(t *testing.T) {
	w, ids := scene(t)
	created := shellFor(w).run(t, "token", "create", "--name", "customer", "--role", "viewer", "--domain", "one.test")
	customer := shell{env: map[string]string{"HOLDFAST_ADDR": w.Socket, "HOLDFAST_TOKEN": strings.TrimSpace(created.out)}}
	for line, want := range map[string]string{
		"domain show ": "one.test", "destination show ": "one", "queue show ": ids["DEFERRED"] + " " + ids["WAITING"],
		"log show " + ids["DOWN"][:25]: "", "policy show ": "", "cluster remove ": "", "token revoke ": "", "account remove ": "",
	} {
		got, _ := customer.offered(t, line)
		slices.Sort(got)
		words := strings.Fields(want)
		slices.Sort(words)
		if !slices.Equal(got, words) {
			t.Errorf("%s: offered %q, want %q", line, got, want)
		}
	}
}

// No node, and one that takes the connection and never answers.
func TestCompletionWithoutANode(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	w, _ := scene(t)
	for address, want := range map[string]string{
		"127.0.0.1:1": "", "unix:/nonexistent/admin.sock": "", "nonsense": "",
		mute.Addr().String(): "", mute.Addr().String() + "," + w.Socket: "one.test two.test",
	} {
		sh := shell{env: map[string]string{"HOLDFAST_ADDR": address}}
		if want == "" {
			sh.completing = completionPatience // all that it has
		}
		began := time.Now()
		got, _ := sh.offered(t, "domain show ")
		if strings.Join(got, " ") != want {
			t.Errorf("%s: offered %q", address, got)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s: it took %v", address, took)
		}
	}
}

// Among more messages than anybody finds one in, none is offered: what some have
// in common the shell would type for all.
func TestCompletionAmongMany(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	for i := range maxOffered + 1 {
		w.Accept(time.Minute+time.Duration(i)*time.Second, "s@x.test", "r@one.test")
	}
	last := w.Accept(time.Minute, "s@x.test", "r@one.test").String()
	sh := shellFor(w)
	for _, line := range []string{"queue show ", "log show " + last[:1]} {
		if got, _ := sh.offered(t, line); len(got) != 1 || !strings.Contains(got[0], "type more of the id") {
			t.Errorf("%s: offered %d: %q", line, len(got), got[:min(3, len(got))])
		}
	}
	if got, _ := sh.offered(t, "queue show "+last[:25]); !slices.Contains(got, last) {
		t.Errorf("offered %q", got)
	}
}

// What a command's use names is completed, or is a name that there isn't yet.
func TestEveryNameIsCompleted(t *testing.T) {
	isNew := regexp.MustCompile(`^holdfast (tls issue|cluster join|account add|dev|help|completion)\b`)
	names := regexp.MustCompile(`\b(NAME|NODE|ID|FILE|DOMAIN|DESTINATION)\b`)
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		arguments, _, _ := strings.Cut(cmd.Use, "--")
		if names.MatchString(arguments) && !strings.Contains(arguments, "-f ") && cmd.ValidArgsFunction == nil && !isNew.MatchString(cmd.CommandPath()) {
			t.Errorf("%s: its arguments aren't completed", cmd.CommandPath())
		}
		for _, child := range cmd.Commands() {
			visit(child)
		}
	}
	a := &app{env: func(string) string { return "" }}
	visit(a.root())
	// And the tables name no command or flag that isn't there.
	root := a.root()
	for path := range a.completedArguments() {
		if cmd, _, err := root.Find(strings.Fields(path)); err != nil || cmd.CommandPath() != "holdfast "+path {
			t.Errorf("no command %s: %v", path, err)
		}
	}
}

// The script for bash, in bash: names are offered, and what strangers wrote in
// their addresses is shown and never run.
func TestCompletionInBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	w := admintest.Start(t)
	w.Configure()
	dir := t.TempDir()
	trap := filepath.Join(dir, "run")
	first := w.Accept(time.Hour, "$(touch${IFS}"+trap+")@x.test", "`touch${IFS}"+trap+"`@one.test").String()
	second := w.Accept(time.Hour, "s@x.test", "r@one.test").String()

	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(dir, "holdfast")); err != nil {
		t.Fatal(err)
	}
	// A part of the package bash-completion, which may not be there.
	const script = `_get_comp_words_by_ref() {
	words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
}
source <(holdfast completion bash) || exit
COMP_WORDS=("$@") COMP_CWORD=$(($#-1)) COMP_TYPE=${COMP_TYPE:-9} COMP_LINE="$*" COMP_KEY=9
__start_holdfast 2>/dev/null
printf '%s\n' "${COMPREPLY[@]}"`
	complete := func(kind string, words ...string) string {
		t.Helper()
		var offered string
		for range 5 { // a node that isn't heard in time is as none, and this program isn't given longer
			cmd := exec.CommandContext(t.Context(), bash, append([]string{"--norc", "-c", script, "bash"}, words...)...)
			cmd.Env = append(os.Environ(), asProgram+"=1", "PATH="+dir+":"+os.Getenv("PATH"), "HOLDFAST_ADDR="+w.Socket, "COMP_TYPE="+kind)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if offered = strings.TrimSpace(string(out)); offered != "" {
				break
			}
		}
		return offered
	}
	const press, list, menu = "9", "63", "37"
	if got := complete(press, "holdfast", "domain", "show", "o"); got != "one.test" {
		t.Errorf("offered %q", got)
	}
	if r := shellFor(w).run(t, "domain", "set", "*", "--destination", "one"); r.status != exitDone {
		t.Fatalf("%+v", r)
	}
	for kind, typed := range map[string]string{press: `\*`, menu: ""} {
		if got := strings.Split(complete(kind, "holdfast", "domain", "show", typed), "\n"); !slices.Contains(got, `\*`) || slices.Contains(got, "*") {
			t.Errorf("the default route is offered as the shell would expand it: %q", got)
		}
	}
	for _, kind := range []string{press, list, menu} {
		got := complete(kind, "holdfast", "queue", "show", "")
		if !strings.Contains(got, first) || !strings.Contains(got, second) {
			t.Errorf("offered %q", got)
		}
		if strings.ContainsAny(got, "$`") {
			t.Errorf("what a stranger wrote is offered as it is: %q", got)
		}
	}
	if got := complete(press, "holdfast", "queue", "show", second[:25]); !strings.Contains(got, second) {
		t.Errorf("offered %q", got)
	}
	if _, err := os.Stat(trap); err == nil {
		t.Error("a command in an address was run")
	}
}
