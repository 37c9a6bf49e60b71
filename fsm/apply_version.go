package fsm

import (
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// The rows of the cluster's own family.
func keyOfVersion() []byte { return []byte{byte(famCluster), 'v'} }
func keyOfDrill() []byte   { return []byte{byte(famCluster), 'd'} }

// loadCluster reads the cluster's own rows.
func (t *tables) loadCluster(key, value []byte) error {
	switch key[1] {
	case 'v':
		record := &pb.VersionRecord{}
		err := proto.Unmarshal(value, record)
		t.version = record.Version
		return err
	case 'd':
		t.drill = &pb.DrillRecord{}
		return proto.Unmarshal(value, t.drill)
	}
	return nil
}

// versionRaised takes the state to a later version: from this event on others
// may follow that older programs don't know. A node may have come back with an
// older program since the leader looked, so it is asked here again, of all
// nodes that there are: one that is down may come back as it was.
func (t *tx) versionRaised(e *pb.VersionRaised) *pb.EventResult {
	if e.Version <= t.tables.version {
		return stale("the state is of version %d", t.tables.version)
	}
	for _, node := range list(t.tables.nodes) {
		if known := reads(node); known < e.Version {
			return stale("%v", tooOld(node.Name, known, e.Version))
		}
	}
	// Only now: a raise that is refused stops nobody.
	if err := checkOwn(e.Version); err != nil {
		t.failed(err)
		return invalid("%v", err)
	}
	key := keyOfVersion()
	t.put(key, t.get(key), encode(&pb.VersionRecord{Version: e.Version}))
	t.tables.version = e.Version
	t.staged.nodesChanged = true
	t.s.log.Info("the state has a new version", "version", e.Version, "index", t.index)
	return resultOK
}
