package node

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const minimal = `
node_id = "a"
data_dir = "DATA"
[smtp]
listen = ["127.0.0.1:2525"]
hostname = "mx-a.example.net"
[cluster]
bootstrap_expect = 1
join = ["127.0.0.1:7500"]
`

func load(t *testing.T, text string) (Config, error) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "holdfast.toml")
	text = strings.ReplaceAll(text, "DATA", filepath.Join(dir, "data"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		if prefix := path + ":"; !strings.HasPrefix(err.Error(), prefix) {
			t.Errorf("error %q doesn't begin with the file's name", err)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("error %q has more than one line", err)
		}
	}
	return c, err
}

func TestLoadFillsInDefaults(t *testing.T) {
	c, err := load(t, minimal)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.RaftAdvertise(), "127.0.0.1:7400"; got != want {
		t.Errorf("raft advertise %q, want %q", got, want)
	}
	if got, want := c.AdminAdvertise(), "127.0.0.1:7500"; got != want {
		t.Errorf("admin advertise %q, want %q", got, want)
	}
	if got, want := c.HTTP.Listen, "127.0.0.1:7600"; got != want {
		t.Errorf("http.listen %q, want %q", got, want)
	}
	if c.Raft.LogStore != "wal" || c.Raft.TrailingBytes != 2<<30 || c.Log.Level != "info" || c.Log.Format != "json" {
		t.Errorf("log_store %q, level %q, format %q", c.Raft.LogStore, c.Log.Level, c.Log.Format)
	}
}

func TestLoadReadsEveryKey(t *testing.T) {
	c, err := load(t, `
node_id = "mx-a"
data_dir = "DATA"
[smtp]
listen = ["127.0.0.1:2525", "[::1]:2525"]
hostname = "mx-a.example.net"
tls_cert = "cert.pem"
tls_key = "key.pem"
proxy_protocol_from = ["10.1.0.0/24", "2001:db8::2"]
[raft]
listen = "127.0.0.1:7401"
advertise = "localhost:7401"
log_store = "boltdb"
trailing_bytes = 16777216
[admin]
listen = ["127.0.0.1:7501"]
advertise = "localhost:7501"
[http]
listen = "127.0.0.1:7601"
[cluster]
bootstrap_expect = 3
join = ["127.0.0.1:7500", "127.0.0.1:7501", "127.0.0.1:7502"]
[tls]
ca = ""
cert = ""
key = ""
[dns]
servers = ["127.0.0.1:5353", "::1"]
[log]
level = "debug"
format = "text"
`)
	if err != nil {
		t.Fatal(err)
	}
	if c.RaftAdvertise() != "localhost:7401" || c.AdminAdvertise() != "localhost:7501" {
		t.Errorf("advertise %q and %q", c.RaftAdvertise(), c.AdminAdvertise())
	}
	if len(c.SMTP.Listen) != 2 || c.SMTP.TLSCert != "cert.pem" || c.Raft.LogStore != "boltdb" || c.Raft.TrailingBytes != 16<<20 || len(c.SMTP.ProxyProtocolFrom) != 2 {
		t.Errorf("read %+v", c)
	}
}

func TestLoadSaysWhatIsWrong(t *testing.T) {
	with := func(old, new string) string { return strings.Replace(minimal, old, new, 1) }
	tests := []struct{ name, text, want string }{
		{"unknown key", with(`hostname =`, `hostnam =`), `:6: unknown key "smtp.hostnam"`},
		{"unknown table", minimal + "[smpt]\nlisten = []\n", `unknown key "smpt`},
		{"syntax", with(`node_id = "a"`, `node_id = a"`), ":2: "},
		{"wrong type", with(`bootstrap_expect = 1`, `bootstrap_expect = "three"`), ":8: "},
		{"no node_id", with(`node_id = "a"`, ``), "node_id is missing"},
		{"bad node_id", with(`"a"`, `"a b"`), `node_id "a b": want`},
		{"no data_dir", with(`data_dir = "DATA"`, ``), "data_dir is missing"},
		{"bad address", with(`127.0.0.1:2525`, `2525`), `smtp.listen "2525": want HOST:PORT`},
		{"bad port", with(`127.0.0.1:2525`, `127.0.0.1:70000`), "port must be 0 to 65535"},
		{"no listener", with(`["127.0.0.1:2525"]`, `[]`), "smtp.listen is empty"},
		{"public raft", minimal + "[raft]\nlisten = \"10.0.0.1:7400\"\n", `raft.listen "10.0.0.1:7400" is not on loopback, and without certificates nodes would talk in plain text`},
		{"public admin", minimal + "[admin]\nlisten = [\"127.0.0.1:7500\", \":7501\"]\n", `admin.listen ":7501" is not on loopback`},
		{"every address", minimal + "[admin]\nlisten = [\":7500\"]\n", `admin.listen ":7500" is every address of the machine: say in admin.advertise`},
		{"advertises every address", minimal + "[raft]\nadvertise = \"0.0.0.0:7400\"\n", `raft.advertise "0.0.0.0:7400": want the host at which others reach it`},
		{"public name", minimal + "[raft]\nadvertise = \"mx-a.example.net:7400\"\n", `raft.advertise "mx-a.example.net:7400" is not on loopback`},
		{"advertised port 0", minimal + "[admin]\nadvertise = \"127.0.0.1:0\"\n", "port must be 1 to 65535"},
		{"public join", with(`["127.0.0.1:7500"]`, `["10.0.0.2:7500"]`), `cluster.join "10.0.0.2:7500" is not on loopback`},
		{"no join", with(`bootstrap_expect = 1
join = ["127.0.0.1:7500"]`, `bootstrap_expect = 3`), "cluster.join is empty: list the admin addresses of all 3"},
		{"join twice", with(`["127.0.0.1:7500"]`, `["127.0.0.1:7500", "127.0.0.1:7500"]`), "twice"},
		{"negative expect", with(`= 1`, `= -1`), "bootstrap_expect -1"},
		{"two nodes", with(`= 1`, `= 2`), "bootstrap_expect 2: want 3 to 5 first members, 1 to try things out, or 0 on a node that joins"},
		{"too many nodes", with(`= 1`, `= 9`), "bootstrap_expect 9"},
		{"tls", minimal + "[tls]\nca = \"ca.pem\"\n", "tls.cert is missing: set ca, cert and key, or none"},
		{"profiles in public", minimal + "[http]\nlisten = \"0.0.0.0:7600\"\npprof = true\n", "http.pprof: profiles show what is in memory"},
		{"half a key pair", with(`hostname`, "tls_cert = \"c.pem\"\nhostname"), "set both or none"},
		{"proxy", with(`hostname`, "proxy_protocol_from = [\"lb.example.net\"]\nhostname"), `smtp.proxy_protocol_from: "lb.example.net" is neither an IP address nor a network`},
		{"proxies", with(`hostname`, "proxy_protocol_from = [\"10.1.2.3/24\"]\nhostname"), `is an address within the network 10.1.2.0/24: which of the two?`},
		{"everybody a proxy", with(`hostname`, "proxy_protocol_from = [\"::/0\"]\nhostname"), "lets everybody say who they are"},
		{"host name", with(`mx-a.example.net`, `mx a`), `smtp.hostname "mx a"`},
		{"empty label", with(`mx-a.example.net`, `mx..example.net`), `smtp.hostname "mx..example.net"`},
		{"log store", minimal + "[raft]\nlog_store = \"files\"\n", `log_store "files"`},
		{"trailing log", minimal + "[raft]\ntrailing_bytes = 1000\n", `raft.trailing_bytes 1000: want 1048576`},
		{"log level", minimal + "[log]\nlevel = \"loud\"\n", `log.level "loud"`},
		{"log format", minimal + "[log]\nformat = \"xml\"\n", `log.format "xml"`},
		{"name server", minimal + "[dns]\nservers = [\"ns.example\"]\n", `dns.servers "ns.example": want IP`},
		{"same port", minimal + "[http]\nlisten = \"127.0.0.1:7500\"\n", "admin.listen and http.listen both want 127.0.0.1:7500"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := load(t, test.text)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q doesn't contain %q", err, test.want)
			}
		})
	}
}

// Mail and metrics may be anywhere without certificates, everything may with them.
func TestLoadOffLoopback(t *testing.T) {
	for name, text := range map[string]string{
		"the front door by default": strings.Replace(minimal, `listen = ["127.0.0.1:2525"]`, ``, 1),
		"metrics":                   minimal + "[http]\nlisten = \"0.0.0.0:7600\"\n",
		"all with certificates": strings.Replace(minimal, "127.0.0.1:7500", "mx-a.example.net:7500", 1) + `
[raft]
listen = "0.0.0.0:7400"
advertise = "mx-a.example.net:7400"
[admin]
listen = ["10.0.0.1:7500"]
[tls]
ca = "ca.pem"
cert = "node-a.pem"
key = "node-a-key.pem"
`,
	} {
		if _, err := load(t, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoadMissingFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.toml"))
	if err == nil || !strings.Contains(err.Error(), "none.toml") {
		t.Errorf("error %v doesn't name the file", err)
	}
}

func TestDataDirMustBeFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := load(t, strings.Replace(minimal, "DATA", path, 1))
	if err == nil || !strings.Contains(err.Error(), "is not a folder") {
		t.Errorf("error %v", err)
	}
}

// A server that answers nothing is enough to see whom the resolver asks.
func TestResolverAsksConfiguredServer(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	asked := make(chan bool, 1)
	go func() {
		n, _, err := server.ReadFrom(make([]byte, 512))
		asked <- err == nil && n > 12
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	lookup := make(chan struct{})
	go func() {
		defer close(lookup)
		if _, err := (DNSConfig{Servers: []string{server.LocalAddr().String()}}).Resolver().LookupHost(ctx, "mx.example.net."); err == nil {
			t.Error("a silent server gave an answer")
		}
	}()
	if !<-asked {
		t.Error("the configured server got no question")
	}
	cancel()
	<-lookup
}
