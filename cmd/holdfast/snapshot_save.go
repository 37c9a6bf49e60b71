package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"holdfast/node"
	pb "holdfast/proto/holdfast/v1"
)

func (a *app) snapshotSaveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "save FILE",
		Short: "Save the cluster's whole state to a file, while it runs",
		Long: `Save the state of the node that answers, as it is at one index of the log, to a
file: configuration, queue, bodies and history. Mail goes on meanwhile. Every
checksum is checked as it arrives; FILE is replaced in one step at the end, and
left as it is where anything fails.

It needs no quorum: without one the snapshot is marked stale, since other nodes
may have been ahead. The file has people's mail in it and is readable by you
alone.`,
		Example: `  holdfast snapshot save /var/backups/holdfast/$(date +%F).snapshot
  holdfast snapshot save --addr 10.0.0.2:7500 b.snapshot`,
		Args: oneFile(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				pieces := &snapshotPieces{app: a}
				header, err := saveFile(args[0], func() (io.Reader, error) {
					var err error
					pieces.stream, err = pb.NewClusterServiceClient(conn).SaveSnapshot(ctx, &pb.SaveSnapshotRequest{})
					return pieces, err
				})
				a.endProgress()
				if err != nil {
					return err
				}
				a.warnStale(header.Stale)
				_, err = fmt.Fprintf(a.out, "saved %s: %s of cluster %s at index %d, by node %s\n",
					args[0], mebibytes(pieces.total), header.ClusterId, header.Index, header.Node)
				return err
			})
		},
	}
}

// saveFile writes a snapshot beside the file that it replaces. The node is asked
// once there is a place for it.
func saveFile(path string, ask func() (io.Reader, error)) (_ *pb.SnapshotHeader, err error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, usage("%s is a folder: name a file in it", path)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			gone := os.Remove(file.Name())
			if !errors.Is(gone, fs.ErrNotExist) {
				err = errors.Join(err, gone)
			}
		}
	}()
	pieces, err := ask()
	var header *pb.SnapshotHeader
	if err == nil {
		header, err = node.CheckSnapshot(io.TeeReader(pieces, file))
	}
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return nil, err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return nil, err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	return header, errors.Join(folder.Sync(), folder.Close())
}

// snapshotPieces reads a snapshot as it arrives, and shows how far it is.
type snapshotPieces struct {
	*app
	stream      grpc.ServerStreamingClient[pb.SaveSnapshotResponse]
	rest        []byte
	done, total uint64
}

func (s *snapshotPieces) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		piece, err := s.stream.Recv()
		if err != nil {
			return 0, err
		}
		s.rest, s.total = piece.Data, piece.Total
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	before := s.done >> 20
	if s.done += uint64(n); s.done>>20 != before {
		s.progress("%s %3d %%, %s of %s", bar(s.done, s.total), 100*min(s.done, s.total)/s.total, mebibytes(s.done), mebibytes(s.total))
	}
	return n, nil
}
