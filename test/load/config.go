package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Config says what a loader sends, where to, and for how long.
type Config struct {
	// Addresses are host:port of SMTP servers; session i keeps to address
	// i modulo their number, so that the gap of each address can be measured.
	Addresses []string
	// Roam makes a session go on to the next address with each connection, and at
	// once where it isn't served, as clients go through the hosts of an MX record.
	Roam bool
	// Sessions is the number of connections kept up at the same time.
	Sessions int
	// Run names the run: it begins every id. Letters and digits.
	Run string

	// Duration ends the run; messages under way are finished. 0 is no limit.
	Duration time.Duration
	// Count ends the run once so many messages were answered 250. 0 is no limit.
	Count int

	// Sender is the domain of the envelope sender; the local part is the id.
	Sender string
	// Recipients are addresses; message n goes to recipient n modulo their number.
	Recipients []string

	// Size is the length of a message in bytes, at least MinSize.
	Size int
	// Every LongEvery-th message of a session has LongSize bytes; 0 is never.
	LongEvery int
	LongSize  int
	// Every SlowEvery-th message of a session is sent in two halves, SlowFor
	// apart, so that sessions are in the middle of DATA; 0 is never.
	SlowEvery int
	SlowFor   time.Duration

	// PerConnection messages are sent before a session reconnects; 0 is no limit.
	PerConnection int
	// Admit, if set, is asked before each message and may wait; false ends the
	// session, as the end of ctx must. Sessions call it at the same time.
	Admit func(ctx context.Context) bool
	// Backoff is the pause before connecting again after a failed connection or a
	// 4xx; by default 50 ms.
	Backoff time.Duration
	// Timeout bounds each wait for a reply; by default 30 s.
	Timeout time.Duration

	// Log gets one JSON object a line for each answered or lost message; may be nil.
	Log io.Writer
}

// MinSize is the shortest message that has room for its headers.
const MinSize = 512

func (c *Config) setDefaults() {
	if c.Backoff == 0 {
		c.Backoff = 50 * time.Millisecond
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Sender == "" {
		c.Sender = "load.test"
	}
}

// Validate says what is missing or out of range.
func (c Config) Validate() error {
	switch {
	case len(c.Addresses) == 0:
		return errors.New("loader: no address to send to")
	case c.Sessions < 1:
		return errors.New("loader: at least one session")
	case c.Run == "":
		return errors.New("loader: the run needs a name")
	case len(c.Recipients) == 0:
		return errors.New("loader: no recipient")
	case c.Duration <= 0 && c.Count <= 0:
		return errors.New("loader: neither a duration nor a count ends the run")
	case c.Size < MinSize:
		return fmt.Errorf("loader: size %d is under %d bytes", c.Size, MinSize)
	case c.LongEvery > 0 && c.LongSize < MinSize:
		return fmt.Errorf("loader: long size %d is under %d bytes", c.LongSize, MinSize)
	}
	return nil
}
