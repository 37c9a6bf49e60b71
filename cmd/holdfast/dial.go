package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// Where a node is looked for when nobody says where.
const (
	defaultSocket  = "unix:/var/lib/holdfast/admin.sock"
	defaultAddress = "127.0.0.1:7500"
	socketName     = "admin.sock" // in a data folder
)

// How long one address may take to connect, and one call to be answered. A
// node gives a change up to 10 s to be agreed on, and as much to be everywhere.
const (
	connectPatience = 3 * time.Second
	callPatience    = 40 * time.Second
)

func (a *app) addReachFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringSliceVar(&a.addresses, "addr", nil, "node to ask, unix:PATH or HOST:PORT, several are tried in turn (HOLDFAST_ADDR)")
	addTLSFlags(root)
	flags.String("token-file", "", "file with the token to show (HOLDFAST_TOKEN has the token itself)")
}

// withNode connects to the first node that answers and calls work with it.
func (a *app) withNode(cmd *cobra.Command, work func(ctx context.Context, conn *grpc.ClientConn) error) error {
	addresses, err := a.nodeAddresses()
	if err != nil {
		return err
	}
	secure, err := a.reachTLS(cmd)
	if err != nil {
		return err
	}
	token, err := a.readToken(cmd)
	if err != nil {
		return err
	}
	conn, err := connect(cmd.Context(), cmp.Or(a.patience, connectPatience), addresses, secure, bearer(token))
	if err != nil {
		return err
	}
	return errors.Join(work(cmd.Context(), conn), conn.Close())
}

func (a *app) nodeAddresses() ([]string, error) {
	addresses := a.addresses
	if len(addresses) == 0 {
		addresses = strings.FieldsFunc(a.env("HOLDFAST_ADDR"), func(r rune) bool { return r == ',' || r == ' ' })
	}
	if len(addresses) == 0 {
		return []string{defaultSocket, defaultAddress}, nil
	}
	for _, address := range addresses {
		if path, ok := strings.CutPrefix(address, "unix:"); ok && path != "" {
			continue
		}
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
			return nil, usage("address %q: want unix:PATH or HOST:PORT", address)
		}
	}
	return addresses, nil
}

func connect(ctx context.Context, patience time.Duration, addresses []string, secure *tls.Config, token bearer) (*grpc.ClientConn, error) {
	var reasons []string
	for _, address := range addresses {
		conn, err := connectTo(ctx, patience, address, secure, token)
		if err == nil {
			return conn, nil
		}
		reasons = append(reasons, fmt.Sprintf("%s (%v)", address, err))
	}
	return nil, &noAnswerError{text: fmt.Sprintf("no node answers at %s; is it running? --addr says where else to ask", strings.Join(reasons, " or "))}
}

func connectTo(ctx context.Context, patience time.Duration, address string, secure *tls.Config, token bearer) (*grpc.ClientConn, error) {
	network, where := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, where = "unix", path
	}
	var last failure
	conn, err := grpc.NewClient("passthrough:///"+where, append(token.options(),
		grpc.WithTransportCredentials(transportTo(network, secure, &last)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, network, where)
			if err == nil {
				if err = token.mayCarry(conn, secure != nil); err != nil {
					err = errors.Join(err, conn.Close())
				}
			}
			last.dialled(err)
			return conn, err
		}),
		// A page of messages ends at 1 MiB, but a single message may add to it.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithUnaryInterceptor(limitTime), grpc.WithStreamInterceptor(tellUnanswered),
	)...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, state) {
			return nil, errors.Join(last.reason(), conn.Close())
		}
	}
	return conn, nil
}

func limitTime(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	return unanswered(method, req, invoke(ctx, method, req, reply, conn, opts...))
}

// failure is why the last attempt to connect failed, which gRPC keeps to itself.
type failure struct {
	mu        sync.Mutex // guards what follows
	err       error
	connected bool
}

// dialled notes how a connection came about, or why it didn't.
func (f *failure) dialled(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.connected = err == nil
	if err != nil {
		f.err = err
	}
}

func (f *failure) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *failure) reason() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.err == nil && !f.connected:
		return fmt.Errorf("no connection within %v", connectPatience)
	case f.err == nil:
		return errors.New("it connects, but does not speak gRPC in plain text: with [tls] in its node file it wants --tls-ca")
	}
	if op, ok := errors.AsType[*net.OpError](f.err); ok {
		return op.Err
	}
	return f.err
}
