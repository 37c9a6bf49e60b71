package node

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"holdfast/relay"
)

var (
	nodeID   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,253}[A-Za-z0-9])?$`)
)

// Validate reports the first setting that can't work, by its name in the file.
func (c Config) Validate() error {
	if !nodeID.MatchString(c.NodeID) {
		if c.NodeID == "" {
			return errors.New("node_id is missing")
		}
		return fmt.Errorf("node_id %q: want 1 to 63 letters, digits, \".\", \"_\" or \"-\"", c.NodeID)
	}
	if c.DataDir == "" {
		return errors.New("data_dir is missing")
	}
	if c.DiskReserveBytes < 0 {
		return fmt.Errorf("disk_reserve_bytes %d: want 0 for the default, or more", c.DiskReserveBytes)
	}
	if info, err := os.Stat(c.DataDir); err == nil && !info.IsDir() {
		return fmt.Errorf("data_dir %s is not a folder", c.DataDir)
	}
	for _, check := range []func() error{
		c.SMTP.validate, c.Raft.validate, c.Admin.validate, c.HTTP.validate,
		c.Cluster.validate, c.TLS.validate, c.validatePlain, c.DNS.validate, c.Log.validate,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return c.validateDistinct()
}

func (c SMTPConfig) validate() error {
	if err := listenAddresses("smtp.listen", c.Listen); err != nil {
		return err
	}
	if !hostname.MatchString(c.Hostname) || !relay.ValidDomain(c.Hostname) {
		return fmt.Errorf("smtp.hostname %q is not a host name", c.Hostname)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("smtp.tls_cert and smtp.tls_key: set both or none")
	}
	_, err := c.proxies()
	return err
}

// proxies are the addresses and networks of ProxyProtocolFrom.
func (c SMTPConfig) proxies() ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range c.ProxyProtocolFrom {
		network, err := relay.ParseNetwork(text)
		if err != nil {
			return nil, fmt.Errorf("smtp.proxy_protocol_from: %w", err)
		}
		if network.Bits() == 0 {
			return nil, fmt.Errorf("smtp.proxy_protocol_from: %q lets everybody say who they are", text)
		}
		networks = append(networks, network)
	}
	return networks, nil
}

func (c RaftConfig) validate() error {
	if err := listenAddress("raft.listen", c.Listen); err != nil {
		return err
	}
	if c.LogStore != "wal" && c.LogStore != "boltdb" {
		return fmt.Errorf("raft.log_store %q: want \"wal\" or \"boltdb\"", c.LogStore)
	}
	if c.TrailingBytes < 1<<20 {
		return fmt.Errorf("raft.trailing_bytes %d: want 1048576 (1 MiB) or more", c.TrailingBytes)
	}
	return advertised("raft", c.Listen, c.Advertise)
}

func (c AdminConfig) validate() error {
	if err := listenAddresses("admin.listen", c.Listen); err != nil {
		return err
	}
	return advertised("admin", c.Listen[0], c.Advertise)
}

func (c HTTPConfig) validate() error {
	if err := listenAddress("http.listen", c.Listen); err != nil {
		return err
	}
	if host, _, _ := net.SplitHostPort(c.Listen); c.Pprof && !isLoopback(host) {
		return fmt.Errorf("http.pprof: profiles show what is in memory, so only where http.listen is on loopback, not with %q", c.Listen)
	}
	return nil
}

// maxFirst members begin a cluster at most: every entry goes to all.
const maxFirst = 5

func (c ClusterConfig) validate() error {
	// Two tolerate the loss of none, as one does, and either one's loss stops both.
	if n := c.BootstrapExpect; n < 0 || n == 2 || n > maxFirst {
		return fmt.Errorf("cluster.bootstrap_expect %d: want 3 to %d first members, 1 to try things out, or 0 on a node that joins", n, maxFirst)
	}
	if len(c.Join) == 0 && c.BootstrapExpect > 1 {
		return fmt.Errorf("cluster.join is empty: list the admin addresses of all %d first members, this node's own too", c.BootstrapExpect)
	}
	for i, address := range c.Join {
		if err := reachable("cluster.join", address); err != nil {
			return err
		}
		if slices.Contains(c.Join[:i], address) {
			return fmt.Errorf("cluster.join lists %s twice", address)
		}
	}
	return nil
}

func (c TLSConfig) validate() error {
	for _, file := range []struct{ key, path string }{{"tls.ca", c.CA}, {"tls.cert", c.Cert}, {"tls.key", c.Key}} {
		if file.path == "" && c.set() {
			return fmt.Errorf("%s is missing: set ca, cert and key, or none of them", file.key)
		}
	}
	return nil
}

// validatePlain keeps what nodes and administrators say to each other off the
// network unless it is encrypted. SMTP is no part of that: mail comes in plain
// text or with STARTTLS from whoever sends it, and the cluster's certificates
// mean nothing to them.
func (c Config) validatePlain() error {
	if c.TLS.set() {
		return nil
	}
	check := func(key string, addresses ...string) error {
		for _, address := range addresses {
			if host, _, _ := net.SplitHostPort(address); address != "" && !isLoopback(host) {
				return fmt.Errorf("%s %q is not on loopback, and without certificates nodes would talk in plain text there: set [tls] (`holdfast tls --help` shows how), or use loopback", key, address)
			}
		}
		return nil
	}
	return cmp.Or(check("raft.listen", c.Raft.Listen), check("raft.advertise", c.Raft.Advertise),
		check("admin.listen", c.Admin.Listen...), check("admin.advertise", c.Admin.Advertise),
		check("cluster.join", c.Cluster.Join...))
}

func (c LogConfig) validate() error {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Level) {
		return fmt.Errorf("log.level %q: want debug, info, warn or error", c.Level)
	}
	if c.Format != "json" && c.Format != "text" {
		return fmt.Errorf("log.format %q: want json or text", c.Format)
	}
	return nil
}

// validateDistinct finds the address that two listeners of the node would
// fight for, before one of them loses.
func (c Config) validateDistinct() error {
	users := map[string]string{}
	use := func(key string, addresses ...string) error {
		for _, address := range addresses {
			if _, port, _ := net.SplitHostPort(address); port == "0" {
				continue
			}
			if other, taken := users[address]; taken {
				return fmt.Errorf("%s and %s both want %s", other, key, address)
			}
			users[address] = key
		}
		return nil
	}
	return cmp.Or(use("smtp.listen", c.SMTP.Listen...), use("raft.listen", c.Raft.Listen),
		use("admin.listen", c.Admin.Listen...), use("http.listen", c.HTTP.Listen))
}

func listenAddresses(key string, addresses []string) error {
	if len(addresses) == 0 {
		return fmt.Errorf("%s is empty: want at least one HOST:PORT", key)
	}
	for _, address := range addresses {
		if err := listenAddress(key, address); err != nil {
			return err
		}
	}
	return nil
}

// listenAddress takes port 0 for any free one.
func listenAddress(key, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s %q: want HOST:PORT", key, address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s %q: port must be 0 to 65535", key, address)
	}
	if strings.ContainsAny(host, " /") {
		return fmt.Errorf("%s %q: want HOST:PORT", key, address)
	}
	return nil
}

// advertised checks where the others reach a listener.
func advertised(table, listen, advertise string) error {
	if advertise != "" {
		return reachable(table+".advertise", advertise)
	}
	if host, _, _ := net.SplitHostPort(listen); unspecified(host) {
		return fmt.Errorf("%s.listen %q is every address of the machine: say in %s.advertise at which one the other nodes reach it", table, listen, table)
	}
	return nil
}

// reachable is an address that others connect to: host and port are real ones.
func reachable(key, address string) error {
	if err := listenAddress(key, address); err != nil {
		return err
	}
	if _, port, _ := net.SplitHostPort(address); port == "0" {
		return fmt.Errorf("%s %q: port must be 1 to 65535", key, address)
	}
	if host, _, _ := net.SplitHostPort(address); unspecified(host) {
		return fmt.Errorf("%s %q: want the host at which others reach it", key, address)
	}
	return nil
}

// unspecified is a host that stands for all addresses of the machine.
func unspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
