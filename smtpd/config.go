package smtpd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Proposer puts events into the log.
type Proposer interface {
	// Propose returns when the event's outcome is known. An error means that it
	// is not known, or that the event surely didn't come into the log. It fills
	// in the event's incarnation, sequence and lowest_open, and keeps neither
	// event nor payload after it has returned without an error. It returns soon
	// after ctx ends.
	Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, error)
}

// Directory is the replicated state as this node has it now. It is asked by
// many sessions at once.
type Directory interface {
	// Domain finds a relay domain by its name in lower case.
	Domain(name string) (*pb.DomainConfig, bool)
	// Configured reports whether at least one domain exists.
	Configured() bool
	// Account finds an account by its name in lower case.
	Account(name string) (*pb.AccountRecord, bool)
	// HasAccounts reports whether there is one.
	HasAccounts() bool
	// Queued is how many messages, and how many bytes, are held for a domain.
	Queued(domain string) (messages, bytes uint64)
	// InRelayNetwork reports whether a client may send mail to domains that aren't
	// configured, by its address.
	InRelayNetwork(client netip.Addr) bool
}

// Gate says whether this node may take mail and give final refusals now.
type Gate interface {
	// Check returns nil while it may, else the reply to give: 451 4.3.2 without
	// a quorum or behind, 452 4.3.1 where disks have reached their reserve.
	Check() *relay.Reply
}

// Config is all that a Server needs. DefaultConfig fills in the limits.
type Config struct {
	// Hostname is how the server calls itself in the greeting and in Received.
	Hostname string
	// Node is the node's name, for the origin of accepted messages.
	Node string
	// Postmaster takes mail to <Postmaster> without a domain. nil and "" refuse it.
	Postmaster func() string
	// ProxyFrom are the proxies whose connections begin with a header of the PROXY
	// protocol, version 1 or 2, that says who the client is.
	ProxyFrom []netip.Prefix
	// TLS turns on STARTTLS; nil leaves it off.
	TLS *tls.Config

	Proposer  Proposer
	Directory Directory
	Gate      Gate
	// Verify refuses a recipient of a configured domain that there isn't, or of whom
	// that can't be told before ctx ends; nil takes all.
	Verify func(ctx context.Context, client netip.Addr, domain *pb.DomainConfig, address string) *relay.Reply
	// Answering is told of each message just before it is answered 250; nil
	// where nobody wants to know.
	Answering func(id relay.MessageID)

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock that stamps events, ids and Received headers.
	Now func() time.Time
	// Entropy is the source of message ids; many sessions read it at once.
	Entropy io.Reader

	// MaxMessageSize is the longest content taken, in bytes: 64 KiB to 1 GiB.
	MaxMessageSize int64
	// MessageSize is the same where it may change while the server runs; nil: it
	// is always MaxMessageSize.
	MessageSize func() int64
	// MaxRecipients is the number of recipients of one message, at least 100.
	MaxRecipients int
	// MaxConnections holds for all clients together.
	MaxConnections int
	// MaxConnectionsPerClient holds for an IPv4 address or an IPv6 /64.
	MaxConnectionsPerClient int
	// MaxErrors is the number of commands refused with 5xx without a message accepted
	// between them before a session is closed.
	MaxErrors int
	// MaxCommands is the number of commands without a message accepted before a
	// session is closed; more than MaxRecipients.
	MaxCommands int
	// MaxGuesses is the number of wrong passwords before a session is closed.
	MaxGuesses int
	// GuessSlots is how many passwords are judged at a time: each takes a
	// processor for some 50 ms, and mail must go on beside whoever guesses.
	GuessSlots int
	// GuessPatience is how long a password may wait for its turn.
	GuessPatience time.Duration
	// GuessPause is how long a client's address waits after a wrong password.
	GuessPause time.Duration
	// BodyMemory bounds the buffers of all bodies over 16 KiB that are under
	// way, in bytes; at least 768 KiB.
	BodyMemory int64

	// CommandTimeout is how long a whole command, a TLS handshake or the
	// writing of a reply may take.
	CommandTimeout time.Duration
	// DataTimeout is how long content may make no progress at all.
	DataTimeout time.Duration
	// MinDataRate is the rate, in bytes per second of waiting for the client,
	// below which a transfer is given up; it counts after DataTimeout.
	MinDataRate int64
	// SessionTimeout ends a session whatever it does.
	SessionTimeout time.Duration
	// AcceptTimeout is how long the cluster may take from the end of the content
	// to the outcome, and how long it may hold up the content on its way.
	AcceptTimeout time.Duration
	// ShutdownGrace is how long content under way may go on at shutdown.
	ShutdownGrace time.Duration
}

// DefaultConfig is a Config with every limit set, the system's clock and its
// source of randomness.
func DefaultConfig() Config {
	return Config{
		Now:                     time.Now,
		Entropy:                 rand.Reader,
		MaxMessageSize:          50 << 20,
		MaxRecipients:           1000,
		MaxConnections:          1000,
		MaxConnectionsPerClient: 100,
		MaxErrors:               20,
		MaxCommands:             5000,
		MaxGuesses:              3,
		GuessSlots:              max(1, runtime.GOMAXPROCS(0)/4),
		GuessPatience:           10 * time.Second,
		GuessPause:              time.Second,
		BodyMemory:              256 << 20,
		// RFC 5321 section 4.5.3.2.7: at least 5 minutes.
		CommandTimeout: 5 * time.Minute,
		// RFC 5321 section 4.5.3.2.5: 3 minutes for each block.
		DataTimeout:    3 * time.Minute,
		MinDataRate:    256,
		SessionTimeout: 2 * time.Hour,
		AcceptTimeout:  30 * time.Second,
		ShutdownGrace:  30 * time.Second,
	}
}

// validate names everything that is wrong with a Config.
func (c *Config) validate() error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	want(relay.ValidDomain(c.Hostname), "hostname %q is not a domain name", c.Hostname)
	want(c.Node != "", "the node's name is missing")
	want(c.Proposer != nil && c.Directory != nil && c.Gate != nil, "proposer, directory and gate are needed")
	want(c.Logger != nil && c.Registerer != nil, "logger and registerer are needed")
	want(c.Now != nil && c.Entropy != nil, "clock and entropy are needed")
	// RFC 5321 sections 4.5.3.1.7 and 4.5.3.1.8 give the least that must be taken.
	want(c.MaxMessageSize >= 64<<10 && c.MaxMessageSize <= 1<<30, "largest message %d: must be 64 KiB to 1 GiB", c.MaxMessageSize)
	want(c.MaxRecipients >= 100, "recipients per message %d: must be at least 100", c.MaxRecipients)
	want(c.MaxConnections >= 1, "connections %d: must be at least 1", c.MaxConnections)
	want(c.MaxConnectionsPerClient >= 1, "connections per client %d: must be at least 1", c.MaxConnectionsPerClient)
	want(c.MaxErrors >= 1, "errors per session %d: must be at least 1", c.MaxErrors)
	want(c.MaxCommands > c.MaxRecipients, "commands per session %d: must be more than the %d recipients of a message", c.MaxCommands, c.MaxRecipients)
	want(c.MaxGuesses >= 1 && c.GuessSlots >= 1, "wrong passwords per session and passwords judged at a time must be at least 1")
	want(c.GuessPatience > 0 && c.GuessPause >= 0, "the patience with passwords must be above 0, the pause after a wrong one not below")
	want(c.BodyMemory >= 3*pieceSize, "memory for bodies %d: must be at least %d", c.BodyMemory, 3*pieceSize)
	want(c.MinDataRate >= 1, "least data rate %d: must be at least 1 byte a second", c.MinDataRate)
	want(c.CommandTimeout > 0 && c.DataTimeout > 0 && c.SessionTimeout > 0 && c.AcceptTimeout > 0, "time-outs must be above 0")
	want(c.ShutdownGrace >= 0, "the grace at shutdown can't be negative")
	if len(errs) > 0 {
		return fmt.Errorf("smtpd: %w", errors.Join(errs...))
	}
	return nil
}

func (c *Config) postmaster() string {
	if c.Postmaster == nil {
		return ""
	}
	return c.Postmaster()
}

// messageSize is the longest content taken now.
func (c *Config) messageSize() int64 {
	if c.MessageSize == nil {
		return c.MaxMessageSize
	}
	return c.MessageSize()
}
