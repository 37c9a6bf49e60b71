package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"holdfast/test/harness"
	"holdfast/test/sink"
)

// sinkMode is the argument with which the program runs as the destination. It
// is a process of its own so that its work and memory are counted to nobody.
const sinkMode = "sink"

// received is what the destination has got so far.
type received struct {
	Messages int   `json:"messages"`
	Bytes    int64 `json:"bytes"`
	// When the message asked for was complete; the zero time if it hasn't come.
	Arrival time.Time `json:"arrival"`
}

// arrivals are the times at which messages were complete.
type arrivals struct {
	mu    sync.Mutex // guards times
	times []time.Time
}

func (a *arrivals) answer(step sink.Step) sink.Reply {
	if step.Verb == sink.Dot {
		a.mu.Lock()
		a.times = append(a.times, time.Now())
		a.mu.Unlock()
	}
	return sink.Reply{}
}

// of gives the time of the n-th message, counted from 1.
func (a *arrivals) of(n int) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n < 1 || n > len(a.times) {
		return time.Time{}
	}
	return a.times[n-1]
}

// serveSink prints its address, then answers each number n that it reads with
// the counts and the time of the n-th message, until its input ends.
func serveSink(in io.Reader, out io.Writer) error {
	var times arrivals
	server, err := sink.Start(sink.Config{Recording: sink.RecordCount, Answer: times.answer})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, server.Addr()); err != nil {
		return err
	}
	answers := json.NewEncoder(out)
	for questions := bufio.NewScanner(in); questions.Scan(); {
		n, err := strconv.Atoi(questions.Text())
		if err != nil {
			return fmt.Errorf("asked for message %q: %w", questions.Text(), err)
		}
		stats := server.Stats()
		if err := answers.Encode(received{stats.Committed, stats.Bytes, times.of(n)}); err != nil {
			return err
		}
	}
	return server.Close()
}

// destination is the running sink process.
type destination struct {
	address string
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

func startDestination() (*destination, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command(self, sinkMode)
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	d := &destination{command: command, in: in, out: bufio.NewReader(out)}
	address, err := d.out.ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the destination didn't start: %w", err), d.stop())
	}
	d.address = address[:len(address)-1]
	return d, nil
}

func (d *destination) stop() error { return errors.Join(d.in.Close(), d.command.Wait()) }

// received asks for the counts and for the time of the n-th message.
func (d *destination) received(n int) (received, error) {
	if _, err := fmt.Fprintln(d.in, n); err != nil {
		return received{}, fmt.Errorf("ask the destination: %w", err)
	}
	line, err := d.out.ReadBytes('\n')
	if err != nil {
		return received{}, fmt.Errorf("ask the destination: %w", err)
	}
	var r received
	return r, json.Unmarshal(line, &r)
}

// waitFor waits until so many messages more than before have come, and gives
// the time at which the n-th of them came.
func (d *destination) waitFor(ctx context.Context, before received, want, n int) (now received, err error) {
	return now, harness.Eventually(ctx, fmt.Sprintf("%d messages at the destination", want), func(context.Context) error {
		if now, err = d.received(before.Messages + n); err != nil {
			return harness.Final(err)
		}
		if got := now.Messages - before.Messages; got < want {
			return fmt.Errorf("%d have come", got)
		}
		return nil
	})
}
