package admin

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash/crc32"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// carryOut brings a change into the log, made from the configuration of an index:
// what is larger than an event goes ahead in pieces. With an error it has not come
// into effect, unless its outcome is unknown.
func (s *settingsService) carryOut(ctx context.Context, change *pb.ConfigurationChange, configured uint64) (uint64, error) {
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(change)
	if err != nil {
		return 0, status.Error(codes.Internal, err.Error())
	}
	id, err := relay.NewMessageID(s.Now(), rand.Reader)
	if err != nil {
		return 0, status.Error(codes.Internal, err.Error())
	}
	applied := &pb.ConfigurationApplied{
		ContentId: id[:], Configured: configured,
		Content: &pb.Content{Size: uint64(len(content)), Crc32C: sum(content)},
	}
	if len(content) > fsm.MaxPiece {
		if applied.Content.Pieces, err = s.stage(ctx, id, content); err != nil {
			return 0, err
		}
		content = nil
	}
	event := &pb.Event{Kind: &pb.Event_ConfigurationApplied{ConfigurationApplied: applied}}
	_, index, err := s.proposeContent(ctx, event, content, "configuration")
	if err != nil && index == 0 && applied.Content.Pieces > 0 {
		s.abandon(ctx, id)
	}
	return index, err
}

// stage stores content in pieces. Whoever doesn't come to use them abandons them;
// should this node die, they go with its incarnation.
func (s *settingsService) stage(ctx context.Context, id relay.MessageID, content []byte) (pieces uint32, err error) {
	for piece := range slices.Chunk(content, fsm.MaxPiece) {
		event := &pb.Event{Kind: &pb.Event_ContentAppended{ContentAppended: &pb.ContentAppended{
			MessageId: id[:], Piece: pieces, Crc32C: sum(piece),
		}}}
		if _, _, err := s.proposeContent(ctx, event, piece, fmt.Sprintf("piece %d of the configuration", pieces)); err != nil {
			if pieces > 0 {
				s.abandon(ctx, id)
			}
			return 0, err
		}
		pieces++
	}
	return pieces, nil
}

// abandon goes on when the caller is gone. Where it fails the pieces stay until
// this node's incarnation ends.
func (s *settingsService) abandon(ctx context.Context, id relay.MessageID) {
	event := &pb.Event{Kind: &pb.Event_ContentAbandoned{ContentAbandoned: &pb.ContentAbandoned{MessageId: id[:]}}}
	if _, err := s.propose(context.WithoutCancel(ctx), event, "configuration"); err != nil {
		s.Logger.Warn("pieces of a configuration not abandoned", "id", id.String(), "error", err)
	}
}

func sum(content []byte) uint32 {
	return crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))
}
