// Command bench measures how many messages a second Holdfast accepts and
// delivers, on three server processes and on one, next to Postfix:
//
//  1. It refuses a folder in memory and prints what an fsync costs.
//  2. A destination runs as a process of its own; it counts what arrives.
//  3. In each round each system is started afresh, warmed up, and loaded for a
//     while with each message size: with as much as it takes, then with so much
//     that what is accepted is delivered at the same rate (through). The systems
//     take turns within a round, so that a slow moment of the machine falls on
//     all of them.
//  4. A measurement ends when the last accepted message has arrived.
//  5. It prints the medians over the rounds, and the ratio to Postfix.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"holdfast/test/harness"
	"holdfast/test/postfix"
	"holdfast/test/program"
)

const (
	domain      = "bench.test"
	postfixName = "postfix"
)

type options struct {
	harness.Workspace
	rounds   int
	sessions int
	duration time.Duration
	drain    time.Duration
	sizes    []int
	systems  []string
	json     bool
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == sinkMode {
		// An interrupt at the terminal goes to the whole group; the sink must
		// outlive the systems that deliver to it, and ends with its input.
		signal.Ignore(os.Interrupt)
		if err := serveSink(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	program.Main("bench", parse, run)
}

func parse(args []string) (options, error) {
	var o options
	flags := o.Flags("bench")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each measurement is repeated")
	flags.IntVar(&o.sessions, "sessions", 50, "SMTP sessions at the same time")
	seconds := flags.Int("seconds", 10, "length of one measurement")
	sizes := flags.String("sizes", "1024,10240,65536", "message sizes in bytes")
	systems := flags.String("systems", "postfix,one,three", "what is measured")
	usePostfix := flags.Bool("postfix", true, "measure Postfix too")
	short := flags.Bool("short", false, "one short round, to see that it works")
	flags.BoolVar(&o.json, "json", false, "print every measurement and the medians as JSON, one object a line")
	if err := program.Parse(flags, args); err != nil {
		return o, err
	}
	if *short {
		o.rounds, *seconds = 1, 2
	}
	if o.rounds < 1 || o.sessions < 1 || *seconds < 1 {
		return o, errors.New("-rounds, -sessions and -seconds must be at least 1")
	}
	o.duration = time.Duration(*seconds) * time.Second
	o.drain = time.Minute + 20*o.duration
	for size := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(size))
		if err != nil {
			return o, fmt.Errorf("-sizes: %q is not a number of bytes", size)
		}
		o.sizes = append(o.sizes, n)
	}
	for name := range strings.SplitSeq(*systems, ",") {
		if name != postfixName || *usePostfix {
			o.systems = append(o.systems, name)
		}
	}
	return o, nil
}

func run(ctx context.Context, o options, out io.Writer) error {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return err
	}
	if err := checkDisk(o.Dir); err != nil {
		return err
	}
	return o.Within(ctx, os.Stderr, func() error { return compare(ctx, o, out, os.Stderr) })
}

func compare(ctx context.Context, o options, out, progress io.Writer) (err error) {
	// Postfix's daemons run as a user of their own and must get through.
	if err := os.Chmod(o.Dir, 0o755); err != nil {
		return err
	}
	fsync, err := fsyncLatency(o.Dir, 200)
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "data in %s, 4 KiB write and fsync: %s (median of 200)\n", o.Dir, fsync.Round(time.Microsecond))
	d, err := startDestination()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	b := &bench{options: o, destination: d}
	figures, err := b.rounds(ctx, progress)
	if err != nil {
		return err
	}
	summaries := summarize(figures)
	if o.json {
		return printJSON(out, figures, summaries)
	}
	fmt.Fprintf(out, "%d sessions, %s each, median of %d rounds, fsync %s\n", o.sessions, o.duration, o.rounds, fsync.Round(time.Microsecond))
	return printTable(out, summaries)
}

func (b *bench) rounds(ctx context.Context, progress io.Writer) ([]figure, error) {
	systems, err := b.systems()
	if err != nil {
		return nil, err
	}
	var all []figure
	for round := range b.options.rounds {
		for _, s := range systems {
			figures, err := b.measure(ctx, s, round+1)
			if err != nil {
				return nil, err
			}
			for _, f := range figures {
				fmt.Fprintf(progress, "round %d: %s %s: accepted %.0f/s, delivered %.0f/s, p99 %s, through %.0f/s\n",
					f.Round, f.System, bytesText(f.Size), f.Accepted, f.Delivered, millis(f.P99), f.Through)
			}
			all = append(all, figures...)
		}
	}
	return all, nil
}

func (b *bench) systems() ([]system, error) {
	var all []system
	for _, name := range b.options.systems {
		switch name {
		case postfixName:
			all = append(all, system{name, b.startPostfix})
		case "one":
			all = append(all, system{"holdfast-1", b.starter(1)})
		case "three":
			all = append(all, system{"holdfast-3", b.starter(3)})
		default:
			return nil, fmt.Errorf("-systems: %q is none of postfix, one, three", name)
		}
	}
	return all, nil
}

// relaySettings are what Postfix needs to relay to a port as Holdfast does.
const relaySettings = `relay_domains = ` + domain + `
relayhost = [127.0.0.1]:%s
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination`

func (b *bench) startPostfix(ctx context.Context, dir string) (*running, error) {
	_, nextPort, err := net.SplitHostPort(b.destination.address)
	if err != nil {
		return nil, err
	}
	p, err := postfix.Start(ctx, dir, fmt.Sprintf(relaySettings, nextPort))
	if errors.Is(err, postfix.ErrMissing) {
		return nil, fmt.Errorf("%w; -postfix=false leaves it out", err)
	}
	if err != nil {
		return nil, err
	}
	stop := func() error {
		failures, err := p.Failures()
		if len(failures) > 0 {
			err = errors.Join(err, fmt.Errorf("postfix had %d troubles, the first: %s", len(failures), failures[0]))
		}
		return errors.Join(err, p.Stop())
	}
	return &running{[]string{p.Address}, stop}, nil
}

func (b *bench) starter(nodes int) func(context.Context, string) (*running, error) {
	return func(ctx context.Context, dir string) (*running, error) {
		ready, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		c, err := startCluster(ready, b.options.Binary, dir, nodes, b.destination.address)
		if err != nil {
			return nil, err
		}
		return &running{c.SMTP(), c.Close}, nil
	}
}
