package fsm

import (
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// keyOfSettings is the one row of its family.
func keyOfSettings() []byte { return []byte{byte(famSettings)} }

// settingsChanged merges, so that two operators who change different settings
// at the same moment don't undo each other's.
func (t *tx) settingsChanged(e *pb.SettingsChanged) *pb.EventResult {
	changed, refusal := t.tables.mergedSettings(e.Settings)
	if refusal != nil {
		return refusal
	}
	t.putSettings(changed)
	t.configured("settings")
	return resultOK
}

func (t *tables) mergedSettings(given *pb.Settings) (*pb.Settings, *pb.EventResult) {
	changed := proto.CloneOf(t.settings)
	proto.Merge(changed, given)
	// What a newer program may have said of settings that this one doesn't know
	// can't be canonical.
	changed.ProtoReflect().SetUnknown(nil)
	if err := SettingsOf(changed).Validate(); err != nil {
		return nil, invalid("%v", err)
	}
	return changed, nil
}

func (t *tx) putSettings(changed *pb.Settings) {
	t.put(keyOfSettings(), t.get(keyOfSettings()), encode(changed))
	t.tables.settings = changed
}

// SettingsOf fills in the defaults.
func SettingsOf(set *pb.Settings) relay.Settings {
	s := relay.DefaultSettings()
	for _, d := range []struct {
		given *int64
		to    *time.Duration
	}{
		{set.LogRetention, &s.LogRetention}, {set.DeleteGrace, &s.DeleteGrace},
		{set.FrozenAge, &s.FrozenAge}, {set.WarnOldest, &s.WarnOldest},
	} {
		if d.given != nil {
			*d.to = time.Duration(*d.given)
		}
	}
	if set.MaxMessageSize != nil {
		s.MaxMessageSize = *set.MaxMessageSize
	}
	if set.WarnPending != nil {
		s.WarnPending = *set.WarnPending
	}
	s.DrillConsent, s.Postmaster = set.GetDrillConsent(), set.GetPostmaster()
	return s
}

// Settings are the cluster's settings as this node has them now.
func (s *State) Settings() relay.Settings { return SettingsOf(s.published().settings) }

// Settings are the cluster's settings at the view's index.
func (v *View) Settings() relay.Settings { return SettingsOf(v.tables.settings) }
