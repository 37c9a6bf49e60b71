package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/admin"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/sink"
)

// demoServer takes everything and shows it; it keeps nothing, so it can run
// for long.
func (d *devCommand) demoServer() sink.Config {
	return sink.Config{
		Address:   loopback(devSink),
		Hostname:  "mail." + demoDomain,
		Recording: sink.RecordCount,
		IDHeader:  "Subject",
		Answer: func(step sink.Step) sink.Reply {
			if step.Verb == sink.Dot {
				d.showArrival(step.Message)
			}
			return sink.Reply{}
		},
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
	d.say("")
	for i := range d.nodes {
		d.say("node %s   SMTP %s   admin %s   HTTP http://%s/metrics   socket %s", devName(i),
			loopback(devSMTP+i), loopback(devAdmin+i), loopback(devHTTP+i), filepath.Join(dir, devName(i), admin.SocketName))
	}
	if d.destination == "" {
		d.say("demo mail server %s takes the mail of %s and shows it here", host, demoDomain)
	} else {
		d.say("the mail of %s goes to %s", demoDomain, host)
	}
	d.say("")
	d.say("try:  holdfast send --server %s --to you@%s", loopback(devSMTP), demoDomain)
	d.say("      swaks --server %s --to you@%s", loopback(devSMTP), demoDomain)
	d.say("      holdfast status --addr %s", loopback(devAdmin))
	d.say("Ctrl-C ends it.")
	d.say("")
	return nil
}

func (d *devCommand) configure(ctx context.Context, host string) error {
	// The nodes answer calls as soon as they are up, and changes once they are a
	// cluster.
	var conn *grpc.ClientConn
	err := persist(ctx, func() (err error) {
		conn, err = connectTo(ctx, loopback(devAdmin))
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
			name := demoDestination
			_, err := pb.NewDomainServiceClient(conn).SetDomain(ctx, &pb.SetDomainRequest{Name: demoDomain, Destination: &name})
			return err
		}, unavailable)
	}
	if err != nil {
		err = fmt.Errorf("set up %s: %w", demoDomain, err)
	}
	return errors.Join(err, conn.Close())
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
