package admintest

import (
	"crypto/tls"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"holdfast/admin"
	pb "holdfast/proto/holdfast/v1"
)

// ServeTLS serves the services on TCP too, beside the calls between nodes, until
// the test ends.
func (w *World) ServeTLS(config *tls.Config) (address string) {
	w.t.Helper()
	return w.ServeTCP(grpc.Creds(credentials.NewTLS(config)))
}

// ServeTCP serves them as the options say: in plain text where they say nothing.
func (w *World) ServeTCP(options ...grpc.ServerOption) (address string) {
	w.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.serveOn(listener, options...)
	return listener.Addr().String()
}

func (w *World) serveOn(listener net.Listener, options ...grpc.ServerOption) {
	patience := w.patience
	if w.lags() {
		patience = 20 * time.Millisecond
	}
	cfg := admin.Config{
		Node: "a", State: w.State, Cluster: w, Membership: w, Logger: w.logger(), Now: w.now, Patience: patience,
		Trial: tryDelivery, TakesNothing: w.takesNothing, CheckRecipient: w.checkRecipient, Flow: w.Flow,
	}
	w.server = grpc.NewServer(slices.Concat(options, admin.RequestIDs(w.logger()), w.access.Interceptors(), admin.Misses(cfg))...)
	server := w.server
	pb.RegisterPeerServiceServer(server, pb.UnimplementedPeerServiceServer{})
	admin.Register(server, cfg)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	w.StopServing = sync.OnceFunc(func() {
		server.Stop()
		check(w.t, <-served)
	})
	w.t.Cleanup(w.StopServing)
}

// Methods are the full names of all that is served, sorted.
func (w *World) Methods() []string {
	var methods []string
	for service, info := range w.server.GetServiceInfo() {
		for _, method := range info.Methods {
			methods = append(methods, "/"+service+"/"+method.Name)
		}
	}
	slices.Sort(methods)
	return methods
}

// Pass lets time pass, for the services alone.
func (w *World) Pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.passed += d
}

func (w *World) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Now.Add(w.passed)
}

// Log is what the services have logged.
func (w *World) Log() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func (w *World) logger() *slog.Logger { return slog.New(slog.NewTextHandler(logWriter{w}, nil)) }

type logWriter struct{ w *World }

func (l logWriter) Write(p []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.log.Write(p)
}
