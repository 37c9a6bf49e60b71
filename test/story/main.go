// Command story lives through what a team does with a cluster in its years, in
// minutes and under load:
//
//  1. Three server processes with certificates run on loopback. Clients send
//     mail without a pause, most of it for destinations that are up, some for one
//     that is down and holds a long queue.
//  2. Chapter by chapter, with the program's own commands as docs/operate.md has
//     them: two nodes join, one is killed and replaced, one is removed, certificates
//     and CA are rotated, the program is upgraded, the state is backed up, all
//     nodes are destroyed, the cluster is restored, the destination comes up.
//  3. After each chapter, while mail goes on, three books are compared: the
//     clients' answers, the mail at the destinations, and the cluster's own log;
//     and the states of all nodes.
//  4. It prints the figures of each chapter, and ends with status 1 where a
//     promise was broken.
package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"holdfast/test/harness"
	"holdfast/test/program"
)

type options struct {
	harness.Workspace
	queue int           // messages that wait throughout
	offer int           // messages a second that clients send
	floor int           // messages a second that must be accepted in each chapter
	least time.Duration // of a chapter
	short bool
}

const limit = 15 * time.Minute // after which it is stuck

func main() { program.Main("story", parse, run) }

func parse(args []string) (options, error) {
	var o options
	flags := o.Flags("story")
	flags.IntVar(&o.queue, "queue", 10_000, "messages that wait for the destination that is down")
	flags.IntVar(&o.offer, "rate", 600, "messages a second that clients send")
	flags.IntVar(&o.floor, "floor", 500, "messages a second that must be accepted in each chapter")
	flags.DurationVar(&o.least, "least", 10*time.Second, "shortest time of a chapter")
	flags.BoolVar(&o.short, "short", false, "a shorter queue, less mail, shorter chapters")
	if err := program.Parse(flags, args); err != nil {
		return o, err
	}
	if o.short {
		o.queue, o.offer, o.floor, o.least = 500, 200, 100, time.Second
	}
	if o.queue < 1 || o.offer < 2*waitingShare || o.floor < 0 || o.least < 0 {
		return o, fmt.Errorf("-queue must be at least 1, -rate %d, -floor and -least 0", 2*waitingShare)
	}
	return o, nil
}

func run(ctx context.Context, o options, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return o.Within(ctx, out, func() error { return tell(ctx, o, out) })
}
