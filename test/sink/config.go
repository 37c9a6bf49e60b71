package sink

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Steps of a connection as Step.Verb names them, besides the SMTP commands.
const (
	Connect = "CONNECT" // before the greeting
	Dot     = "."       // after the final dot, or after the chunk marked LAST
)

// Recording says how much is kept of each transaction.
type Recording int

// What is kept.
const (
	RecordAll   Recording = iota // every transaction with its content
	RecordIDs                    // how often each value of IDHeader was committed
	RecordCount                  // only the numbers in Stats
)

// Config is a server's behaviour. The zero value listens on a free port of
// 127.0.0.1, offers DefaultOffer, and accepts and records everything.
type Config struct {
	Address   string   // host:port, default 127.0.0.1:0
	Hostname  string   // in greeting, EHLO and certificate, default sink.test
	Offer     []string // EHLO lines, nil for DefaultOffer; "SIZE n" is enforced
	STARTTLS  bool     // offered with a self-signed certificate for Hostname, localhost and 127.0.0.1
	Recording Recording
	// ReadBuffer bounds what the kernel takes of a content that isn't read yet,
	// in bytes; 0 leaves it to the system.
	ReadBuffer int
	IDHeader   string // name of the header whose value is Message.ID, default X-Test-Id

	// Answer chooses the reply to a step; the zero Reply leaves it to the
	// server. It runs on the connection's goroutine, so it must not block:
	// Reply.Hold does that.
	Answer func(Step) Reply
}

// Step is what a client has just done.
type Step struct {
	Verb    string // an SMTP command in upper case, Connect or Dot
	Args    string // the rest of the command line
	Address string // of MAIL and RCPT, without the angle brackets
	Conn    int    // number of the connection, from 1
	Open    int    // connections open now, this one included
	Message *Message
}

// Reply is how the server answers a step.
type Reply struct {
	Code     int // 0 with Hold, Delay or Stall keeps the server's own reply
	Enhanced string
	Text     string
	// Raw is written as it is in place of code and text, line ends included;
	// Code still decides how the server goes on.
	Raw string
	// Hold keeps the reply back until it is closed or the server is.
	Hold <-chan struct{}
	// Delay keeps the reply back for a time.
	Delay time.Duration
	// Stall goes with the answer to DATA: after 354 nothing of the content is
	// read until it is closed, the connection is reset or the server closes. A
	// content that is longer than the buffers keeps the client in its middle.
	Stall <-chan struct{}
	// Silent acts on Code, so that 250 to Dot commits, but writes nothing: the
	// reply that is lost on its way.
	Silent bool
	// Hangup closes the connection after the reply, or without one if Code is 0.
	Hangup bool
}

func (r Reply) chosen() bool { return r.Code != 0 || r.Raw != "" || r.Hangup }

// On is an Answer that gives one reply to one verb.
func On(verb string, reply Reply) func(Step) Reply {
	return func(s Step) Reply {
		if s.Verb == verb {
			return reply
		}
		return Reply{}
	}
}

// DefaultOffer is the list of extensions of a modern server.
func DefaultOffer() []string {
	return []string{
		"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE", "CHUNKING", "BINARYMIME", "ENHANCEDSTATUSCODES",
	}
}

// OfferWithout is DefaultOffer without the named extensions.
func OfferWithout(names ...string) []string {
	return slices.DeleteFunc(DefaultOffer(), func(name string) bool {
		return slices.Contains(names, name)
	})
}

func (c *Config) fill() error {
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	if c.Hostname == "" {
		c.Hostname = "sink.test"
	}
	if c.Offer == nil {
		c.Offer = DefaultOffer()
	}
	if c.IDHeader == "" {
		c.IDHeader = "X-Test-Id"
	}
	if c.Recording < RecordAll || c.Recording > RecordCount {
		return fmt.Errorf("sink: unknown recording %d", c.Recording)
	}
	return nil
}

// offers reports whether an extension is offered, and its parameters.
func (c *Config) offers(name string) (params string, ok bool) {
	for _, line := range c.Offer {
		keyword, rest, _ := strings.Cut(line, " ")
		if strings.EqualFold(keyword, name) {
			return rest, true
		}
	}
	return "", false
}
