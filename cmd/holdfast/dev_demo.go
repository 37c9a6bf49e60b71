package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/sink"
)

// demoServer takes everything and shows it. It keeps subjects only, and those
// not for long.
func (d *devCommand) demoServer() sink.Config {
	return sink.Config{
		Address:   loopback(d.ports.sink),
		Hostname:  "mail." + demoDomain,
		Recording: sink.RecordIDs,
		IDHeader:  "Subject",
		Answer: func(step sink.Step) sink.Reply {
			if step.Verb == sink.Dot {
				d.showArrival(step.Message)
			}
			return sink.Reply{}
		},
	}
}

// forget empties the demo server's memory from time to time.
func forget(ctx context.Context, demo *sink.Server) error {
	const many = 1000
	for {
		if err := demo.WaitStats(ctx, func(s sink.Stats) bool { return s.Transactions >= many }); err != nil {
			return nil //nolint:nilerr // the end of ctx is the only error, and no failure
		}
		demo.Reset()
	}
}

func (d *devCommand) showArrival(m *sink.Message) {
	var to []string
	for _, r := range m.Recipients {
		to = append(to, r.Address)
	}
	d.say("%s  delivered to the demo mail server: from %s to %s, %d bytes, subject %q",
		d.now().Format("15:04:05"), printable(sender(m.From)), printable(strings.Join(to, ", ")), m.Size, m.ID)
}

// introduce sets up the demo domain once there is a quorum, the way any client
// would, and says what there is.
func (d *devCommand) introduce(ctx context.Context, dir, host string) error {
	d.say("starting %s, data in %s", plural(uint64(d.nodes), "node"), dir)
	if err := d.configure(ctx, host); err != nil {
		return err
	}
	for i := range d.nodes {
		if err := d.ready(ctx, i); err != nil {
			return err
		}
	}
	d.say("")
	for i := range d.nodes {
		d.say("node %s   SMTP %s   admin %s   HTTP http://%s/metrics   socket %s", devName(i),
			loopback(d.ports.smtp+i), loopback(d.ports.admin+i), loopback(d.ports.http+i), filepath.Join(dir, devName(i), socketName))
	}
	if d.destination == "" {
		d.say("demo mail server %s takes the mail of %s and shows it here", host, demoDomain)
	} else {
		d.say("the mail of %s goes to %s", demoDomain, host)
	}
	d.say("")
	program := calledAs(d.program)
	d.say("try:  %s send --server %s --to you@%s", program, loopback(d.ports.smtp), demoDomain)
	d.say("      swaks --server %s --to you@%s", loopback(d.ports.smtp), demoDomain)
	d.say("      %s status --addr %s", program, loopback(d.ports.admin))
	d.say("Ctrl-C ends it.")
	d.say("")
	return nil
}

// calledAs is how to call the program once more: "go run" ends with the file
// that it built gone, or in a cache.
func calledAs(program string) string {
	switch {
	case program == "":
		return "holdfast"
	case strings.Contains(program, "go-build"):
		return "go run ./cmd/holdfast"
	}
	return program
}

func (d *devCommand) configure(ctx context.Context, host string) error {
	// The nodes answer calls as soon as they are up, and changes once they are a
	// cluster.
	var conn *grpc.ClientConn
	err := persist(ctx, func() (err error) {
		conn, err = connectTo(ctx, connectPatience, loopback(d.ports.admin), nil, "")
		return err
	}, func(error) bool { return true })
	if err != nil {
		return err
	}
	err = persist(ctx, func() error {
		_, err := pb.NewDestinationServiceClient(conn).SetDestination(ctx, &pb.SetDestinationRequest{
			Name: demoDestination, Hosts: []*pb.DestinationHost{{Address: host, Priority: 10, Weight: 1}},
		})
		return err
	}, unavailable)
	if err == nil {
		err = persist(ctx, func() error {
			// Without verification: whoever tries it sends to any recipient, and sees that
			// mail is held while --destination is down, for the first one too.
			_, err := pb.NewDomainServiceClient(conn).SetDomain(ctx, &pb.SetDomainRequest{
				Name: demoDomain, Destination: new(demoDestination), Verify: new(pb.Verify_VERIFY_OFF),
			})
			return err
		}, unavailable)
	}
	if err != nil {
		err = fmt.Errorf("set up %s: %w", demoDomain, err)
	}
	return errors.Join(err, conn.Close())
}

// ready waits until a node takes mail, so that the line to try doesn't fail.
func (d *devCommand) ready(ctx context.Context, i int) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return persist(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(d.ports.http+i)+"/readyz", nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(req)
		if err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("node %s is not ready: %s", devName(i), answer.Status)
		}
		return errors.Join(err, answer.Body.Close())
	}, func(error) bool { return true })
}

func unavailable(err error) bool { return status.Code(err) == codes.Unavailable }

// persist calls work until it succeeds, fails in a way that won't pass, or ctx
// ends.
func persist(ctx context.Context, work func() error, passing func(error) bool) error {
	const pause = 200 * time.Millisecond
	for {
		err := work()
		if err == nil || !passing(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
