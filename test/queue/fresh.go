package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/smtp"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/test/sink"
)

// What is promised of a fresh message, whatever waits for a retry (R9).
const (
	freshWithin = time.Second
	slowFor     = 5 * time.Second
)

// freshRun has deferred spam retried in a slow destination's slots, and sends
// fresh messages beside it.
func freshRun(ctx context.Context, o options, out io.Writer) error {
	return inWorld(ctx, o, "fresh", out, func(w *world) (err error) {
		if err := w.configureSpam(ctx); err != nil {
			return err
		}
		d := &slowServer{begun: map[string]time.Time{}}
		d.Server, err = sink.Start(sink.Config{Address: w.next, Recording: sink.RecordCount, Answer: d.answer})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		warm, count := 100, 40
		if o.short {
			count = 8
		}
		if err := w.send(warm, "warm", false); err != nil {
			return err
		}
		if err := d.WaitStats(ctx, func(s sink.Stats) bool { return s.Committed == warm }); err != nil {
			return err
		}
		if err := w.send(o.messages, "spam", true); err != nil {
			return err
		}
		if err := d.await(ctx, o.messages); err != nil {
			return err
		}
		d.slow(true)
		w.Say("%d spam messages were deferred and are due each second; the destination takes %s for each message from now on", o.messages, slowFor)
		return w.freshBeside(ctx, d, count)
	})
}

func (w *world) configureSpam(ctx context.Context) error {
	node := w.cluster.Nodes[0]
	if _, err := node.CLI(ctx, "policy", "set", "often", "--phase", "until=2h,every=1s", "--retention", "2h"); err != nil {
		return err
	}
	if err := w.configure(ctx); err != nil {
		return err
	}
	_, err := node.CLI(ctx, "domain", "set", domain, "--policy", "often", "--spam-if", "X-Spam-Score>5")
	return err
}

// freshBeside sends one message after the other, once the retries have filled
// their slots, and measures when each is begun.
func (w *world) freshBeside(ctx context.Context, d *slowServer, count int) error {
	if err := d.WaitStats(ctx, func(s sink.Stats) bool { return s.Open >= slots/2 }); err != nil {
		return fmt.Errorf("%d connections: %w", d.Stats().Open, err)
	}
	if err := pause(ctx, 2*slowFor); err != nil {
		return err
	}
	retried := d.deferrals()
	var waits []time.Duration
	for n := range count {
		id := fmt.Sprintf("fresh%d", n)
		if err := w.send(1, id, false); err != nil {
			return err
		}
		accepted := time.Now()
		begun, err := d.awaitBegun(ctx, id+"-0")
		if err != nil {
			return fmt.Errorf("%s after %s: %w", id, time.Since(accepted), err)
		}
		waits = append(waits, max(0, begun.Sub(accepted)))
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	slices.Sort(waits)
	longest := waits[len(waits)-1]
	w.Say("%d fresh messages: begun at the destination %.0f ms after 250 at the median, %.0f ms at most (promised: %s); %d retries of spam meanwhile, %d connections at once",
		count, waits[len(waits)/2].Seconds()*1e3, longest.Seconds()*1e3, freshWithin, d.deferrals()-retried, d.Stats().MaxOpen)
	if longest > freshWithin {
		w.Violation("a fresh message was begun only after %s", longest)
	}
	if d.deferrals() == retried {
		w.Violation("no spam was retried meanwhile: the run shows nothing")
	}
	if most := d.Stats().MaxOpen; most > slots {
		w.Violation("%d connections in %d slots", most, slots)
	}
	return nil
}

// send has messages accepted, one after the other.
func (w *world) send(count int, name string, spam bool) error {
	client, err := smtp.Dial(w.cluster.Nodes[0].SMTP)
	if err != nil {
		return err
	}
	defer client.Close()
	header := "Subject: run\r\n"
	if spam {
		header += "X-Spam-Score: 9\r\n"
	}
	for n := range count {
		id := fmt.Sprintf("%s-%d", name, n)
		if err := transaction(client, id, header+"\r\nHello.\r\n"); err != nil {
			return fmt.Errorf("message %s: %w", id, err)
		}
	}
	return client.Quit()
}

// transaction sends one message, whose id is the sender's local part.
func transaction(client *smtp.Client, id, text string) error {
	if err := client.Mail(id + "@origin.test"); err != nil {
		return err
	}
	if err := client.Rcpt("user@" + domain); err != nil {
		return err
	}
	content, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(content, text); err != nil {
		return err
	}
	return content.Close()
}

// slowServer defers spam, and takes its time for everything once it is slow.
type slowServer struct {
	*sink.Server

	mu       sync.Mutex // guards all below
	delay    time.Duration
	begun    map[string]time.Time // by sender's local part, first MAIL
	deferred int
}

func (d *slowServer) answer(step sink.Step) sink.Reply {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch step.Verb {
	case "MAIL":
		id, _, _ := strings.Cut(step.Address, "@")
		if d.begun[id].IsZero() {
			d.begun[id] = time.Now()
		}
	case sink.Dot:
		if step.Message != nil && strings.HasPrefix(step.Message.From, "spam") {
			d.deferred++
			return sink.Reply{Code: 451, Enhanced: "4.7.1", Text: "looks like spam, not now", Delay: d.delay}
		}
		return sink.Reply{Delay: d.delay}
	}
	return sink.Reply{}
}

func (d *slowServer) slow(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = 0
	if on {
		d.delay = slowFor
	}
}

func (d *slowServer) deferrals() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.deferred
}

// await waits until so many different messages of spam have been begun.
func (d *slowServer) await(ctx context.Context, spam int) error {
	return eventually(ctx, 10*time.Minute, "the spam to be deferred", func(context.Context) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		seen := 0
		for id := range d.begun {
			if strings.HasPrefix(id, "spam") {
				seen++
			}
		}
		if seen < spam {
			return fmt.Errorf("%d of %d were tried", seen, spam)
		}
		return nil
	})
}

// awaitBegun waits for the first MAIL of a message.
func (d *slowServer) awaitBegun(ctx context.Context, id string) (at time.Time, err error) {
	return at, eventually(ctx, time.Minute, "message "+id+" to be begun", func(context.Context) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if at = d.begun[id]; at.IsZero() {
			return errors.New("it waits")
		}
		return nil
	})
}
