package admin

import (
	"context"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

type settingsService struct {
	pb.UnimplementedSettingsServiceServer
	*node
}

func (s *settingsService) GetSettings(context.Context, *pb.GetSettingsRequest) (*pb.GetSettingsResponse, error) {
	return &pb.GetSettingsResponse{Settings: settings(s.State.Settings()), Stale: s.stale()}, nil
}

// SetSettings needs no lock against other changes: the event has only what is
// given, and applying it merges and checks.
func (s *settingsService) SetSettings(ctx context.Context, req *pb.SetSettingsRequest) (*pb.SetSettingsResponse, error) {
	if req.Settings == nil || proto.Size(req.Settings) == 0 {
		return nil, invalid("settings", "no setting is given: `holdfast settings set --help` lists them")
	}
	if given := req.Settings.RelayNetworks; given != nil {
		networks, err := relay.RelayNetworkTexts(given.Networks)
		if err != nil {
			return nil, invalid("relay_networks", "relay-networks: %v", err)
		}
		given.Networks = networks
	}
	event := &pb.Event{Kind: &pb.Event_SettingsChanged{SettingsChanged: &pb.SettingsChanged{Settings: req.Settings}}}
	if err := s.configure(ctx, event, "settings"); err != nil {
		return nil, err
	}
	return &pb.SetSettingsResponse{Settings: settings(s.State.Settings())}, nil
}

// settings has every field set.
func settings(s relay.Settings) *pb.Settings {
	return &pb.Settings{
		LogRetention: proto.Int64(int64(s.LogRetention)), DeleteGrace: proto.Int64(int64(s.DeleteGrace)),
		FrozenAge: proto.Int64(int64(s.FrozenAge)), MaxMessageSize: proto.Int64(s.MaxMessageSize),
		WarnPending: proto.Uint64(s.WarnPending), WarnOldest: proto.Int64(int64(s.WarnOldest)),
		DrillConsent: proto.Bool(s.DrillConsent), Postmaster: proto.String(s.Postmaster),
		RelayNetworks: &pb.RelayNetworks{Networks: s.RelayNetworks},
		VerifyValid:   proto.Int64(int64(s.VerifyValid)), VerifyInvalid: proto.Int64(int64(s.VerifyInvalid)),
	}
}
