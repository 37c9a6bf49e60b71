package fsm

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// famConfigured has no rows of its own: the past of its one key is who changed
// the configuration at which index.
const famConfigured family = 1

func keyOfConfigured() []byte { return []byte{byte(famConfigured)} }

// configured notes that the current event has changed the configuration.
func (t *tx) configured(subject string) {
	t.applied.Configured = t.index
	if by := t.event.By; by == "" || len(by) > MaxReason {
		return
	}
	record := &pb.ConfiguredRecord{}
	key := binary.BigEndian.AppendUint64(tablePast(keyOfConfigured()), t.index)
	raw := t.load(key, record)
	record.Changes = append(record.Changes, &pb.ConfiguredRecord_Change{Subject: subject, By: t.event.By, At: t.event.Time})
	t.put(key, raw, encode(record))
	t.forgetTableRows(keyOfConfigured())
}

// Configured is the index at which domains, their lists of recipients, destinations,
// policies or settings changed last before the view's.
func (v *View) Configured() uint64 { return v.applied.Configured }

// ConfigurationChange says who changed something of the configuration.
type ConfigurationChange struct {
	Index uint64
	By    string // "" where it isn't known any more
	At    time.Time
	File  bool // with `holdfast apply`
}

// LastChange is the latest change of a domain, of its list of recipients, of a
// destination or policy (kind and name), or of the settings ("settings", ""). Zero where it isn't known.
func (v *View) LastChange(kind, name string) (ConfigurationChange, error) {
	var key []byte
	var index uint64
	subject := kind + " " + name
	switch kind {
	case "domain":
		key = keyOfName(famDomains, name)
		config, _ := lookup(v.tables.domains, name)
		index = config.GetRevision()
	case "destination":
		key = keyOfName(famDestinations, name)
		record, _ := lookup(v.tables.destinations, name)
		index = record.GetConfig().GetRevision()
	case "policy":
		key = keyOfName(famPolicies, name)
		index = v.PolicyRevision(name)
	case "recipients":
		if index = v.DomainCounter(name).ListedIndex; index == 0 {
			return ConfigurationChange{}, nil
		}
	default:
		key, subject = keyOfSettings(), kind
	}
	if index == 0 {
		// It has no revision, or was removed: the last thing kept of its past.
		last, err := lastKey(v.snap, tablePast(key))
		if err != nil || last == nil {
			return ConfigurationChange{}, err
		}
		index = binary.BigEndian.Uint64(last[len(last)-8:])
	}
	return v.changeAt(index, subject)
}

func (v *View) changeAt(index uint64, subject string) (ConfigurationChange, error) {
	found := ConfigurationChange{Index: index}
	record := &pb.ConfiguredRecord{}
	key := binary.BigEndian.AppendUint64(tablePast(keyOfConfigured()), index)
	err := scanFrom(v.snap, key, after(key), func(_, value []byte) error {
		return proto.Unmarshal(value, record)
	})
	for _, change := range record.Changes {
		if change.Subject == subject || change.Subject == "" {
			found.By, found.At, found.File = change.By, time.Unix(0, change.At), change.Subject == ""
		}
	}
	return found, err
}

// lastKey is the last key with a prefix, nil where there is none.
func lastKey(db pebble.Reader, prefix []byte) ([]byte, error) {
	iter, err := db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, err
	}
	defer iter.Close()
	if !iter.Last() {
		return nil, iter.Error()
	}
	return slices.Clone(iter.Key()), nil
}
