package node

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	"holdfast/admin"
	"holdfast/cluster"
	"holdfast/delivery"
	"holdfast/fsm"
	"holdfast/smtpd"
	"holdfast/smtpd/verify"
	"holdfast/upkeep"
)

// Node is one node of a cluster. New makes it, Run runs it once.
type Node struct {
	cfg      Config
	log      *slog.Logger
	registry *prometheus.Registry

	listeners    listeners
	disk         *disk
	answered     *answered
	limits       limits
	state        *fsm.State
	cluster      *cluster.Cluster
	smtp         *smtpd.Server
	scheduler    *delivery.Scheduler
	verifier     *verify.Verifier
	keeper       *upkeep.Keeper
	peers        *grpc.Server // on TCP, for the other nodes and for administration
	admins       *grpc.Server // on the socket in the data folder
	health       []*health.Server
	verification *admin.Verification
	flow         *admin.Flow
	certificates *certificates
	doors        doors
	access       *admin.Access
	draining     atomic.Bool

	fatalOnce sync.Once
	fatal     chan error
}

// New binds the node's addresses and opens its data. Nothing runs yet; a Node
// that isn't run must be closed.
func New(cfg Config, logger *slog.Logger) (_ *Node, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, log: logger.With("node", cfg.NodeID), registry: prometheus.NewRegistry(),
		fatal: make(chan error, 1),
	}
	if n.certificates, err = openCertificates(cfg, n.log); err != nil {
		return nil, err
	}
	n.certificates.register(n.registry)
	if n.limits, err = systemLimits(); err != nil {
		return nil, err
	}
	n.disk = newDisk(cfg.DataDir, cfg.DiskReserveBytes)
	n.disk.register(n.registry)
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "holdfast_build_info", Help: "1, with the version of this program.",
		ConstLabels: prometheus.Labels{"version": cfg.Version},
	})
	build.Set(1)
	n.registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := fsm.MakeDataDir(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if err := n.listeners.bind(cfg); err != nil {
		return nil, err
	}
	if err := n.openData(); err != nil {
		return nil, err
	}
	return n, n.makeParts()
}

// Close gives up a node that was never run.
func (n *Node) Close() error {
	err := n.listeners.close()
	if n.cluster != nil {
		err = errors.Join(err, n.cluster.Close())
	}
	if n.state != nil {
		err = errors.Join(err, n.state.Close())
	}
	return err
}

func (n *Node) openData() (err error) {
	if err := cluster.CheckFinished(n.cfg.DataDir); err != nil {
		return err
	}
	n.state, err = fsm.Open(fsm.Config{
		Dir: filepath.Join(n.cfg.DataDir, "state"), Node: n.cfg.NodeID,
		Logger: n.log.With("component", "state"), Metrics: n.registry, Fatal: n.fail,
	})
	if err != nil {
		return err
	}
	n.answered = &answered{dir: filepath.Join(n.cfg.DataDir, "drill"), drill: n.state.Drill, now: time.Now, log: n.log}
	n.cluster, err = cluster.Open(cluster.Config{
		Node: n.cfg.NodeID, DataDir: n.cfg.DataDir,
		RaftListener: n.listeners.raft, RaftAdvertise: n.cfg.RaftAdvertise(),
		AdminAdvertise: n.cfg.AdminAdvertise(),
		SMTPAddress:    n.SMTPAddr(), Version: n.cfg.Version,
		LogStore:        n.cfg.Raft.LogStore,
		BootstrapExpect: n.cfg.Cluster.BootstrapExpect, Join: n.cfg.Cluster.Join,
		Limits: cluster.Limits{TrailingBytes: n.cfg.Raft.TrailingBytes},
		State:  n.state, Logger: n.log.With("component", "cluster"), Metrics: n.registry,
		Fatal: n.fail, Now: time.Now, Sessions: n.sessions, StuckBulks: n.stuckBulks,
		TLS: n.certificates.nodes, Certificates: n.certificates.expiries,
		DiskLow:   func() bool { return n.disk.space().low() },
		Faults:    cluster.Faults{Kill: n.cfg.Kill, Pause: n.cfg.Pause, DiskFull: n.disk.countAsFull},
		FrontDoor: func() string { return gate{n}.closed() },
		Answered:  n.answered.list,

		VerifyRecipient: n.verifyRecipient,
	})
	return err
}

func (n *Node) makeParts() (err error) {
	n.doors = newDoors(n.log, n.registry, n.cluster.Now)
	smtp := smtpd.DefaultConfig()
	smtp.Hostname, smtp.Node, smtp.Now = n.cfg.SMTP.Hostname, n.cfg.NodeID, n.cluster.Now
	smtp.Proposer, smtp.Directory, smtp.Gate = acceptance{n.cluster}, n.state, gate{n}
	smtp.MessageSize = func() int64 { return n.state.Settings().MaxMessageSize }
	smtp.Postmaster = func() string { return n.state.Settings().Postmaster }
	n.verifier = verify.New(verify.Config{State: n.state, Ask: n.askOwner, Now: n.cluster.Now, Logger: n.log.With("component", "verify")})
	smtp.Verify = n.recipient
	smtp.Logger, smtp.Registerer = n.log, n.registry
	smtp.Answering = n.answered.note
	smtp.ShutdownGrace = stopContent
	if smtp.MaxConnections, err = n.limits.clients(smtp.MaxConnections); err != nil {
		return err
	}
	n.log.Info("limits", "file_descriptors", n.limits.descriptors, "smtp_connections", smtp.MaxConnections,
		"memory_limit", n.limits.memory, "disk_free", n.disk.space().free, "disk_reserve", n.disk.space().reserve)
	smtp.TLS = n.certificates.forSMTP()
	if smtp.ProxyFrom, err = n.cfg.SMTP.proxies(); err != nil {
		return err
	}
	if n.smtp, err = smtpd.New(smtp); err != nil {
		return err
	}
	n.scheduler, err = delivery.New(delivery.Config{
		Node: n.cfg.NodeID, Hostname: n.cfg.SMTP.Hostname, State: n.state,
		Proposer: outcomes{n.cluster}, Lease: n.cluster,
		Dialer: n.dialer(),
		Now:    n.cluster.Now, Chance: rand.Float64,
		Logger: n.log.With("component", "delivery"), Metrics: n.registry,
	})
	if err != nil {
		return err
	}
	n.keeper, err = upkeep.New(upkeep.Config{
		State: n.state, Cluster: leadership{n}, Now: n.cluster.Now,
		Logger: n.log.With("component", "upkeep"), Metrics: n.registry,
	})
	if err != nil {
		return err
	}
	n.serveServices()
	return nil
}

// serveServices serves administration on the socket and on TCP alike; who may call
// what is decided in one place.
func (n *Node) serveServices() {
	n.flow = admin.NewFlow(n.state)
	cfg := admin.Config{
		Node: n.cfg.NodeID, State: n.state, Cluster: operators{n}, Membership: operators{n}, Drills: n.cluster, Now: n.cluster.Now,
		Logger: n.log.With("component", "admin"), Trial: n.trial, TakesNothing: n.takesNothing, CheckRecipient: n.checkRecipient, Flow: n.flow,
	}
	n.verification = admin.NewVerification(cfg, admin.DefaultVerificationTimes(), n.registry)
	n.access = admin.NewAccess(admin.AccessConfig{
		State: n.state, Logger: cfg.Logger, Metrics: n.registry, Now: n.cluster.Now, Open: n.cfg.OpenAdmin,
	})
	calls := slices.Concat(admin.RequestIDs(cfg.Logger), n.access.Interceptors(), admin.Misses(cfg))
	n.peers = grpc.NewServer(append(n.cluster.ServerOptions(), calls...)...)
	n.admins = grpc.NewServer(calls...)
	n.cluster.RegisterPeer(n.peers)
	n.health = append(n.health, admin.Register(n.admins, cfg), admin.Register(n.peers, cfg))
}

// Reload reads all certificates again, those of [tls] and that of the front
// door. Of what is broken the old stays in use, and the error says what is.
func (n *Node) Reload() error { return n.certificates.reload() }

// fail ends the node for good. The first reason is the one that counts.
func (n *Node) fail(err error) {
	n.fatalOnce.Do(func() {
		n.fatal <- err
		if n.cfg.Fatal != nil {
			n.cfg.Fatal(err)
		}
	})
}

// SMTPAddr is the first address that takes mail.
func (n *Node) SMTPAddr() string { return n.listeners.smtp[0].Addr().String() }

// AdminAddr is the first TCP address that takes admin calls.
func (n *Node) AdminAddr() string { return n.listeners.admin[0].Addr().String() }

// HTTPAddr is the address of /metrics, /healthz and /readyz.
func (n *Node) HTTPAddr() string { return n.listeners.http.Addr().String() }

// listeners are the node's sockets; those of parts that run are theirs to close.
type listeners struct {
	smtp, admin []net.Listener
	raft, http  net.Listener
	socket      net.Listener
}

func (l *listeners) bind(cfg Config) (err error) {
	for _, address := range cfg.SMTP.Listen {
		if l.smtp, err = listen(l.smtp, "smtp.listen", address); err != nil {
			return err
		}
	}
	for _, address := range cfg.Admin.Listen {
		if l.admin, err = listen(l.admin, "admin.listen", address); err != nil {
			return err
		}
	}
	single, err := listen(nil, "raft.listen", cfg.Raft.Listen)
	if err != nil {
		return err
	}
	l.raft = single[0]
	if single, err = listen(nil, "http.listen", cfg.HTTP.Listen); err != nil {
		return err
	}
	l.http = single[0]
	l.socket, err = admin.ListenSocket(cfg.DataDir)
	return err
}

func listen(already []net.Listener, key, address string) ([]net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return already, fmt.Errorf("%s: %w", key, err)
	}
	return append(already, l), nil
}

func (l *listeners) close() error {
	var errs []error
	for _, listener := range append(append([]net.Listener{l.raft, l.http, l.socket}, l.smtp...), l.admin...) {
		if listener != nil {
			if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
