package fsm

import (
	"net/netip"
	"slices"
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
	changed := MergeSettings(t.settings, given)
	if err := SettingsOf(changed).Validate(); err != nil {
		return nil, invalid("%v", err)
	}
	return changed, t.refusePostmaster(changed.GetPostmaster())
}

// refusePostmaster refuses one for whom no mail would be taken: who writes to
// <Postmaster> would be told so, and nobody else.
func (t *tables) refusePostmaster(address string) *pb.EventResult {
	if address == "" {
		return nil
	}
	domain := relay.RelayDomain(address)
	if _, ok := lookup(t.domains, domain); !ok {
		return refused(pb.EventResult_CODE_UNROUTABLE,
			"postmaster: domain %s isn't configured here: `holdfast domain set %s --destination NAME` comes first", domain, domain)
	}
	return nil
}

// MergeSettings is what is set once given is changed. A list is changed as a whole.
func MergeSettings(set, given *pb.Settings) *pb.Settings {
	changed := proto.CloneOf(set)
	proto.Merge(changed, given)
	if networks := given.GetRelayNetworks(); networks != nil {
		changed.RelayNetworks = &pb.RelayNetworks{Networks: slices.Clone(networks.Networks)}
	}
	// What a newer program may have said of settings that this one doesn't know
	// can't be canonical.
	changed.ProtoReflect().SetUnknown(nil)
	return changed
}

func (t *tx) putSettings(changed *pb.Settings) {
	t.put(keyOfSettings(), t.get(keyOfSettings()), encode(changed))
	t.failedIf(t.tables.setSettings(changed))
}

func (t *tables) setSettings(set *pb.Settings) (err error) {
	t.settings = set
	t.relayNetworks, err = relay.ParseRelayNetworks(set.RelayNetworks.GetNetworks())
	return err
}

// InRelayNetwork reports whether a client may send mail to domains that aren't
// configured, by its address.
func (s *State) InRelayNetwork(client netip.Addr) bool {
	return slices.ContainsFunc(s.published().relayNetworks, func(n netip.Prefix) bool { return n.Contains(client) })
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
		{set.VerifyValid, &s.VerifyValid}, {set.VerifyInvalid, &s.VerifyInvalid},
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
	s.RelayNetworks = set.GetRelayNetworks().GetNetworks()
	return s
}

// Settings are the cluster's settings as this node has them now.
func (s *State) Settings() relay.Settings { return SettingsOf(s.published().settings) }

// Settings are the cluster's settings at the view's index.
func (v *View) Settings() relay.Settings { return SettingsOf(v.tables.settings) }
