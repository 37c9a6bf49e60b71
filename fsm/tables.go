package fsm

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
	iradix "github.com/hashicorp/go-immutable-radix/v2"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// tables is the part of the state that is small and read all the time. It is
// immutable: Apply makes the next one, and readers keep what they took. Its
// size goes with the configuration, never with the queue.
type tables struct {
	domains      *iradix.Tree[*pb.DomainConfig]
	destinations *iradix.Tree[*pb.DestinationRecord]
	policies     *iradix.Tree[*pb.PolicyConfig] // operators' own
	nodes        *iradix.Tree[*pb.NodeRecord]
	counters     *iradix.Tree[*pb.CounterRecord] // by keyOfCounter
	tokens       *iradix.Tree[*pb.TokenRecord]   // by id
	accounts     *iradix.Tree[*pb.AccountRecord]
	eligible     []string // nodes that may own destinations
	settings     *pb.Settings
	version      uint32          // of the state
	drill        *pb.DrillRecord // nil where none is under way

	relayNetworks []netip.Prefix // of the settings
}

func emptyTables() tables {
	return tables{
		domains:      iradix.New[*pb.DomainConfig](),
		destinations: iradix.New[*pb.DestinationRecord](),
		policies:     iradix.New[*pb.PolicyConfig](),
		nodes:        iradix.New[*pb.NodeRecord](),
		counters:     iradix.New[*pb.CounterRecord](),
		tokens:       iradix.New[*pb.TokenRecord](),
		accounts:     iradix.New[*pb.AccountRecord](),
		settings:     &pb.Settings{},
		version:      firstVersion,
	}
}

func loadTables(db pebble.Reader) (tables, error) {
	return readTables(func(f family, each func(key, value []byte) error) error {
		return scan(db, []byte{byte(f)}, each)
	})
}

// familyScan calls each with the rows of a family in the order of their keys.
type familyScan func(f family, each func(key, value []byte) error) error

func readTables(rows familyScan) (tables, error) {
	t := emptyTables()
	err := firstError(
		loadTree(rows, famDomains, &t.domains, func() *pb.DomainConfig { return &pb.DomainConfig{} }),
		loadTree(rows, famDestinations, &t.destinations, func() *pb.DestinationRecord { return &pb.DestinationRecord{} }),
		loadTree(rows, famPolicies, &t.policies, func() *pb.PolicyConfig { return &pb.PolicyConfig{} }),
		loadTree(rows, famNodes, &t.nodes, func() *pb.NodeRecord { return &pb.NodeRecord{} }),
		loadTree(rows, famTokens, &t.tokens, func() *pb.TokenRecord { return &pb.TokenRecord{} }),
		loadTree(rows, famAccounts, &t.accounts, func() *pb.AccountRecord { return &pb.AccountRecord{} }),
		loadTree(rows, famCounters, &t.counters, func() *pb.CounterRecord { return &pb.CounterRecord{} }),
		rows(famSettings, func(_, value []byte) error { return proto.Unmarshal(value, t.settings) }),
		rows(famCluster, t.loadCluster),
	)
	if err == nil {
		err = t.setSettings(t.settings)
	}
	t.eligible = eligibleNodes(t.nodes)
	return t, err
}

// loadTree reads a family into a tree. Counters keep their whole key, since it
// says which kind of name follows; the others are known by name alone.
func loadTree[T proto.Message](rows familyScan, f family, tree **iradix.Tree[T], empty func() T) error {
	txn := (*tree).Txn()
	err := rows(f, func(key, value []byte) error {
		record := empty()
		if err := proto.Unmarshal(value, record); err != nil {
			return err
		}
		name := slices.Clone(key[1:])
		if f == famCounters {
			name = slices.Clone(key)
		}
		txn.Insert(name, record)
		return nil
	})
	*tree = txn.Commit()
	return err
}

func lookup[T any](tree *iradix.Tree[T], name string) (T, bool) {
	return tree.Get([]byte(name))
}

func list[T any](tree *iradix.Tree[T]) []T {
	all := make([]T, 0, tree.Len())
	tree.Root().Walk(func(_ []byte, v T) bool {
		all = append(all, v)
		return false
	})
	return all
}

// eligibleNodes are the nodes among which destinations are shared: of those in
// service the eligible ones, or all active ones while none is (a whole cluster
// that has restarted).
func eligibleNodes(nodes *iradix.Tree[*pb.NodeRecord]) []string {
	var active, eligible []string
	for _, node := range list(nodes) {
		if node.Active && node.DrainingSince == 0 {
			active = append(active, node.Name)
			if node.Eligible {
				eligible = append(eligible, node.Name)
			}
		}
	}
	if len(eligible) > 0 {
		return eligible
	}
	return active
}

// owner is the node that delivers to a destination: the highest score of
// rendezvous hashing, or the next one after each failed probe.
func (t *tables) owner(destination *pb.DestinationRecord) string {
	n := len(t.eligible)
	switch n {
	case 0:
		return ""
	case 1:
		return t.eligible[0]
	}
	order := slices.Clone(t.eligible)
	name := destination.GetConfig().GetName()
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Or(cmp.Compare(score(b, name), score(a, name)), cmp.Compare(a, b))
	})
	return order[int(destination.GetHealth().GetRank())%n]
}

func score(node, destination string) uint64 {
	return xxhash.Sum64String(node + "\x00" + destination)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
