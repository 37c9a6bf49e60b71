package harness

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "holdfast/proto/holdfast/v1"
)

// Status is what tests read of `holdfast status --json`.
type Status struct {
	Leader string `json:"leader"`
	Stale  bool   `json:"stale"`
	Nodes  []struct {
		Name         string `json:"name"`
		Role         string `json:"role"`
		Alive        bool   `json:"alive"`
		AppliedIndex uint64 `json:"appliedIndex"`
	} `json:"nodes"`
	Queue            Count `json:"queue"`
	DestinationsDown []struct {
		Name  string `json:"name"`
		Cause string `json:"cause"`
	} `json:"destinationsDown"`
}

// Count is a line of `holdfast queue count --json`.
type Count struct {
	Pending   int `json:"pending"`
	Held      int `json:"held"`
	Frozen    int `json:"frozen"`
	InDoubt   int `json:"inDoubt"`
	Delivered int `json:"delivered"`
	Failed    int `json:"failed"`
}

// ExitError is a command that didn't end with status 0.
type ExitError struct {
	Args   []string
	Status int
	Stderr string
}

// Error shows the command, its status and its words.
func (e *ExitError) Error() string {
	return fmt.Sprintf("holdfast %s: exit status %d: %s", strings.Join(e.Args, " "), e.Status, strings.TrimSpace(e.Stderr))
}

// Socket is the address of the node's admin socket.
func (n *Node) Socket() string { return "unix:" + filepath.Join(n.Data(), "admin.sock") }

// CLI runs a command of the node's own program against the node and gives what
// it printed. A status other than 0 is an *ExitError.
func (n *Node) CLI(ctx context.Context, args ...string) ([]byte, error) {
	binary := cmp.Or(n.Binary, n.cluster.config.Binary)
	if binary == "" {
		return nil, errors.New("harness: no binary to run commands with (Config.Binary)")
	}
	args = append(args[:len(args):len(args)], "--addr", n.Socket())
	command := exec.CommandContext(ctx, binary, args...)
	command.Env = environment()
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return stdout.Bytes(), &ExitError{Args: args, Status: exit.ExitCode(), Stderr: stderr.String()}
	}
	return stdout.Bytes(), err
}

// JSON runs a reading command that prints one object and decodes it.
func (n *Node) JSON(ctx context.Context, into any, args ...string) error {
	output, err := n.CLI(ctx, append(args[:len(args):len(args)], "--json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(output, into); err != nil {
		return fmt.Errorf("holdfast %s --json: %w in %q", strings.Join(args, " "), err, output)
	}
	return nil
}

// Lines runs a reading command that prints an object a line and hands each on.
func (n *Node) Lines(ctx context.Context, line func([]byte) error, args ...string) error {
	output, err := n.CLI(ctx, append(args[:len(args):len(args)], "--json")...)
	if err != nil {
		return err
	}
	for object := range bytes.Lines(output) {
		if err := line(object); err != nil {
			return fmt.Errorf("holdfast %s --json: %w", strings.Join(args, " "), err)
		}
	}
	return nil
}

// Dial opens a gRPC connection to the node's admin socket; close it.
func (n *Node) Dial() (*grpc.ClientConn, error) {
	return grpc.NewClient(n.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func (n *Node) knownLeader(ctx context.Context) (name string, err error) {
	conn, err := n.Dial()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	status, err := pb.NewClusterServiceClient(conn).GetStatus(ctx, &pb.GetStatusRequest{})
	return status.GetLeader(), err
}
