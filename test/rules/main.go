// Rules shows that each rule of the protocol is needed and tested.
//
//  1. Each rule names where it is in the code, the change that takes it out, the
//     test that must then fail, and what that test must say.
//  2. A run applies one change after the other as an overlay, so that no file of
//     the tree is touched, runs the one test, and wants it to fail in these words.
//  3. docs/protocol.md is the table of all rules. The package's own test holds it
//     up to date, and holds that each change still fits the code.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"holdfast/test/program"
)

type options struct {
	match *regexp.Regexp
	write bool
	limit time.Duration
}

func main() { program.Main("rules", parse, run) }

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("rules", flag.ContinueOnError)
	only := flags.String("run", "", "only the rules whose section, text, code or test matches this regular expression")
	flags.BoolVar(&o.write, "write", false, "write docs/protocol.md and run nothing")
	flags.DurationVar(&o.limit, "limit", 2*time.Minute, "when a test that doesn't end counts as failed")
	if err := program.Parse(flags, args); err != nil {
		return o, err
	}
	var err error
	o.match, err = regexp.Compile(*only)
	return o, err
}

func run(ctx context.Context, o options, out io.Writer) error {
	if o.write {
		return os.WriteFile(document, []byte(render(allSections())), 0o644)
	}
	return takeOut(ctx, out, o.match, o.limit)
}

// takeOut takes one rule out after the other.
func takeOut(ctx context.Context, out io.Writer, match *regexp.Regexp, limit time.Duration) error {
	shown, kept := 0, 0
	for _, s := range allSections() {
		for _, r := range s.rules {
			if r.test == "" || !match.MatchString(s.title+" "+r.text+" "+r.where()+" "+r.test) {
				continue
			}
			began := time.Now()
			failure, err := r.takenOut(ctx, limit)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			took := time.Since(began).Round(time.Second)
			if err != nil {
				kept++
				fmt.Fprintf(out, "NOT SHOWN  %s (%s, %s)\n    %v\n", r.text, r.test, took, err)
				continue
			}
			shown++
			fmt.Fprintf(out, "shown      %s (%s, %s)\n    %s\n", r.text, r.test, took, failure)
		}
	}
	fmt.Fprintf(out, "%d rules shown, %d not\n", shown, kept)
	if kept > 0 {
		return fmt.Errorf("%d rules can be taken out without the failure that they prevent", kept)
	}
	return nil
}
