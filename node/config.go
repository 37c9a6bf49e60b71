package node

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"holdfast/cluster"
)

// Config is the node file: what one node needs to know before it meets its
// cluster. The same file serves first start, restart and rejoining.
type Config struct {
	// NodeID names the node for good: 1 to 63 letters, digits, ".", "_", "-".
	NodeID string `toml:"node_id"`
	// DataDir holds raft log, state and admin.sock; one node's, never shared.
	DataDir string `toml:"data_dir"`
	// DiskReserveBytes of DataDir's file system stay free: below, new mail is
	// answered 452 while delivery goes on. 0 is a twentieth of it, at most 1 GiB.
	DiskReserveBytes int64 `toml:"disk_reserve_bytes"`

	SMTP    SMTPConfig    `toml:"smtp"`
	Raft    RaftConfig    `toml:"raft"`
	Admin   AdminConfig   `toml:"admin"`
	HTTP    HTTPConfig    `toml:"http"`
	Cluster ClusterConfig `toml:"cluster"`
	TLS     TLSConfig     `toml:"tls"`
	DNS     DNSConfig     `toml:"dns"`
	Log     LogConfig     `toml:"log"`

	// Version is what the node reports as its own.
	Version string `toml:"-"`
	// OpenAdmin takes whoever calls on TCP for an administrator: `dev` only.
	OpenAdmin bool `toml:"-"`
	// Fatal is called once, with what makes it impossible for the node to go on
	// (a failed fsync, an unknown event; ErrRemoved where an operator took it out of
	// the cluster). nil stops only this node.
	Fatal func(error) `toml:"-"`
	// Kill and Pause are for drills: they end the process at once, and stop it
	// for a while. nil where the process isn't this node's alone.
	Kill  func()                    `toml:"-"`
	Pause func(time.Duration) error `toml:"-"`
}

// ErrRemoved is in what Fatal gets where nothing failed: the node has left the
// cluster for good, and starting it again would only tell so again.
var ErrRemoved = cluster.ErrRemoved

// SMTPConfig is the front door.
type SMTPConfig struct {
	Listen []string `toml:"listen"`
	// Hostname greets clients and stands in trace headers; default: the system's.
	Hostname string `toml:"hostname"`
	// TLSCert and TLSKey are PEM files for STARTTLS, both or none.
	TLSCert string `toml:"tls_cert"`
	TLSKey  string `toml:"tls_key"`
	// ProxyProtocolFrom are the IP addresses and networks of proxies whose
	// connections begin with a header of the PROXY protocol, version 1 or 2: it
	// says who the client is. All others are clients themselves.
	ProxyProtocolFrom []string `toml:"proxy_protocol_from"`
}

// RaftConfig is the replicated log.
type RaftConfig struct {
	Listen string `toml:"listen"`
	// Advertise is where the other nodes reach Listen; default: Listen itself.
	Advertise string `toml:"advertise"`
	// LogStore is "wal" or "boltdb". It is chosen with the first start.
	LogStore string `toml:"log_store"`
	// TrailingBytes of the log are kept for a node that was away: the longer it
	// is, the less often one that comes back needs the whole state. At least
	// 1 MiB; at most a tenth of the disk is used. Default: 2 GiB.
	TrailingBytes int64 `toml:"trailing_bytes"`
}

// AdminConfig is gRPC, for administration and between nodes.
type AdminConfig struct {
	Listen []string `toml:"listen"`
	// Advertise is where the other nodes reach it; default: the first of Listen.
	Advertise string `toml:"advertise"`
}

// HTTPConfig is /metrics, /healthz and /readyz.
type HTTPConfig struct {
	Listen string `toml:"listen"`
	// Pprof serves Go's profiles under /debug/pprof/. They tell what is in
	// memory, mail too, so only on loopback.
	Pprof bool `toml:"pprof"`
}

// ClusterConfig is how a node finds its cluster.
type ClusterConfig struct {
	// BootstrapExpect is the number of members of a new cluster; 0 on a node
	// that only joins.
	BootstrapExpect int `toml:"bootstrap_expect"`
	// Join lists admin addresses.
	Join []string `toml:"join"`
}

// TLSConfig secures raft and gRPC on TCP with the cluster's own CA, PEM files.
type TLSConfig struct {
	// CA holds one certificate, or several while one CA takes another's place.
	CA string `toml:"ca"`
	// Cert is the node's, for holdfast://node/NODE_ID, and Key its key.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
}

// set reports whether any of it is, and so all of it must be.
func (c TLSConfig) set() bool { return c != (TLSConfig{}) }

// DNSConfig says which name servers to ask.
type DNSConfig struct {
	// Servers are IP or IP:port; default: the system's.
	Servers []string `toml:"servers"`
}

// LogConfig is the node's own log, on stderr.
type LogConfig struct {
	Level  string `toml:"level"`  // debug, info, warn or error
	Format string `toml:"format"` // json or text
}

// DefaultConfig has everything that a node file may leave out, except for
// SMTP.Hostname, which Load takes from the system.
func DefaultConfig() Config {
	return Config{
		SMTP:  SMTPConfig{Listen: []string{"0.0.0.0:25"}},
		Raft:  RaftConfig{Listen: "127.0.0.1:7400", LogStore: "wal", TrailingBytes: cluster.DefaultLimits().TrailingBytes},
		Admin: AdminConfig{Listen: []string{"127.0.0.1:7500"}},
		HTTP:  HTTPConfig{Listen: "127.0.0.1:7600"},
		Log:   LogConfig{Level: "info", Format: "json"},
	}
}

// Load reads a node file, fills in the defaults and validates. Its errors are
// one line that names the file, and the line in it where there is one.
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("node file: %w", err)
	}
	c := DefaultConfig()
	if err := decode(text, &c); err != nil {
		return Config{}, fmt.Errorf("%s:%w", path, err)
	}
	if c.SMTP.Hostname == "" {
		if c.SMTP.Hostname, err = os.Hostname(); err != nil {
			return Config{}, fmt.Errorf("%s: smtp.hostname is not set and the system has none: %w", path, err)
		}
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// decode wants every key known. Its errors begin with the line number.
func decode(text []byte, c *Config) error {
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(c)
	if unknown, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		first := unknown.Errors[0]
		row, _ := first.Position()
		return fmt.Errorf("%d: unknown key %q", row, strings.Join(first.Key(), "."))
	}
	if wrong, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, _ := wrong.Position()
		return fmt.Errorf("%d: %s", row, strings.TrimPrefix(wrong.Error(), "toml: "))
	}
	if err != nil {
		return fmt.Errorf(" %w", err)
	}
	return nil
}

// RaftAdvertise is where other nodes reach this one's raft.
func (c Config) RaftAdvertise() string {
	if c.Raft.Advertise != "" {
		return c.Raft.Advertise
	}
	return c.Raft.Listen
}

// AdminAdvertise is where other nodes reach this one's gRPC.
func (c Config) AdminAdvertise() string {
	if c.Admin.Advertise != "" {
		return c.Admin.Advertise
	}
	return c.Admin.Listen[0]
}

// SlogLevel is Level for slog. Validate has seen to it that it is one.
func (c LogConfig) SlogLevel() slog.Level {
	switch c.Level {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}
