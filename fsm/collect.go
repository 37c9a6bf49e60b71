package fsm

import (
	"bytes"
	"cmp"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"

	pb "holdfast/proto/holdfast/v1"
)

// maxSeries is for how many destinations there are series of their own: those
// with the longest queues. The rest is in the sums.
const maxSeries = 1000

// collector reads the state when it is scraped, so that Apply pays nothing for
// it. What it says of the queue and of destinations is replicated: every node
// says the same, so take the maximum over nodes, never the sum.
type collector struct{ s *State }

var (
	queueRecipients = describe("queue_recipients", "Recipients in the queue of the whole cluster, by state.", "state")
	queueInDoubt    = describe("queue_in_doubt_recipients", "Recipients in the queue with an attempt whose outcome is unknown.")
	queueOldest     = describe("queue_oldest_timestamp_seconds", "When the oldest pending recipient was accepted, in seconds since 1970; 0 where none is pending.")
	ended           = describe("recipients_ended_total", "Recipients of the whole cluster that have ended, by what they came to.", "outcome")
	duplicates      = describe("recipients_duplicated_total", "Deliveries of recipients that had ended before.")

	destinationStates = describe("destinations", "Destinations, by state.", "state")
	destinationUp     = describe("destination_up", "1 while a destination takes mail, 0 while it is suspect or down.", "destination")
	destinationQueue  = describe("destination_queue_recipients", "Pending and held recipients of a destination.", "destination")
	destinationSlots  = describe("destination_slots", "Connections that a destination allows over all nodes.", "destination")
	destinationClaims = describe("destination_claims", "Attempts claimed by any node: in a slot, or waiting for one.", "destination")
	unlisted          = describe("destinations_without_series", "Destinations beyond the thousand with the longest queues, which have series of their own.")

	domainCount = describe("domains", "Relay domains.")
	nodeStates  = describe("nodes", "Nodes as the cluster's log has them, by state.", "state")
	stateRows   = describe("state_rows", "Rows of the replicated state, by family.", "family")

	pebbleDisk        = describe("pebble_disk_bytes", "Size of the state's files.")
	pebbleMemtables   = describe("pebble_memtable_bytes", "Memory for what isn't flushed yet.")
	pebbleCache       = describe("pebble_block_cache_bytes", "Memory for blocks that were read.")
	pebbleHits        = describe("pebble_block_cache_hits_total", "Blocks found in memory.")
	pebbleMisses      = describe("pebble_block_cache_misses_total", "Blocks read from disk.")
	pebbleFlushes     = describe("pebble_flushes_total", "Memtables written to disk.")
	pebbleCompactions = describe("pebble_compactions_total", "Compactions done.")
	pebbleDebt        = describe("pebble_compaction_debt_bytes", "Bytes that compactions have yet to rewrite, estimated.")
	pebbleReadAmp     = describe("pebble_read_amplification", "Files that one look-up may touch.")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("holdfast_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector. A state that is closed has nothing to say.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	v, err := c.s.View()
	if err != nil {
		return
	}
	defer v.Close()
	send := sender{ch: ch}
	v.collectQueue(send)
	c.collectDestinations(v, send)
	v.collectNodes(send)
	for _, family := range v.Digests() {
		send.gauge(stateRows, family.Rows, family.Family)
	}
	collectDatabase(v.gen.db.Metrics(), send)
}

type sender struct{ ch chan<- prometheus.Metric }

func (s sender) gauge(desc *prometheus.Desc, value uint64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
}

func (s sender) counter(desc *prometheus.Desc, value uint64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
}

func (v *View) collectQueue(send sender) {
	total := v.Counters()
	send.gauge(queueRecipients, total.Pending, "pending")
	send.gauge(queueRecipients, total.Held, "held")
	send.gauge(queueRecipients, total.Frozen, "frozen")
	send.gauge(queueInDoubt, total.InDoubt)
	send.counter(ended, total.Delivered, "delivered")
	// Without those that can still come back: a counter never falls.
	send.counter(ended, total.Ended-total.Undoable, "failed")
	send.counter(duplicates, total.Duplicates)
	if oldest, err := v.OldestPending(); err == nil {
		send.ch <- prometheus.MustNewConstMetric(queueOldest, prometheus.GaugeValue, float64(oldest)/1e9)
	}
}

// OldestPending is when the oldest pending recipient of all domains was
// accepted, in nanoseconds since 1970; 0 where none is pending. It reads one row
// of each class for each domain that has open ones, and no more.
func (v *View) OldestPending() (oldest int64, err error) {
	iter, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: []byte{byte(famOpen)}, UpperBound: after([]byte{byte(famOpen)})})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for valid := iter.First(); valid; {
		name, _, _ := bytes.Cut(iter.Key()[1:], []byte{0})
		domain := openPrefix(string(name))
		for _, class := range PendingClasses() {
			pending := append(slices.Clone(domain), byte(class))
			if iter.SeekGE(pending) && bytes.HasPrefix(iter.Key(), pending) {
				if at, _, _ := tailOf(iter.Key()); oldest == 0 || at < oldest {
					oldest = at
				}
			}
		}
		valid = iter.SeekGE(after(domain))
	}
	return oldest, iter.Error()
}

func (c collector) collectDestinations(v *View, send sender) {
	states := map[pb.DestinationHealth_State]uint64{}
	records := v.Destinations()
	waiting := map[string]uint64{}
	for _, record := range records {
		states[record.Health.GetState()]++
		count := v.DestinationCounter(record.Config.GetName())
		waiting[record.Config.GetName()] = count.Pending + count.Held
	}
	send.gauge(destinationStates, states[pb.DestinationHealth_STATE_UP], "up")
	send.gauge(destinationStates, states[pb.DestinationHealth_STATE_SUSPECT], "suspect")
	send.gauge(destinationStates, states[pb.DestinationHealth_STATE_DOWN], "down")
	if len(records) > maxSeries {
		slices.SortStableFunc(records, func(a, b *pb.DestinationRecord) int {
			return cmp.Compare(waiting[b.Config.GetName()], waiting[a.Config.GetName()])
		})
	}
	listed := records[:min(len(records), maxSeries)]
	send.gauge(unlisted, uint64(len(records)-len(listed)))
	for _, record := range listed {
		name, up := record.Config.GetName(), uint64(0)
		if record.Health.GetState() == pb.DestinationHealth_STATE_UP {
			up = 1
		}
		send.gauge(destinationUp, up, name)
		send.gauge(destinationQueue, waiting[name], name)
		send.gauge(destinationSlots, uint64(record.Config.GetSlots()), name)
		send.gauge(destinationClaims, uint64(c.s.ForeignClaims(name, 0)), name)
	}
}

func (v *View) collectNodes(send sender) {
	active, down := uint64(0), uint64(0)
	for _, node := range v.Nodes() {
		if node.Active {
			active++
		} else {
			down++
		}
	}
	send.gauge(nodeStates, active, "active")
	send.gauge(nodeStates, down, "down")
	send.gauge(domainCount, uint64(v.tables.domains.Len()))
}

func collectDatabase(m *pebble.Metrics, send sender) {
	send.gauge(pebbleDisk, m.DiskSpaceUsage())
	send.gauge(pebbleMemtables, m.MemTable.Size)
	send.gauge(pebbleCache, uint64(max(0, m.BlockCache.Size)))
	send.counter(pebbleHits, uint64(max(0, m.BlockCache.Hits)))
	send.counter(pebbleMisses, uint64(max(0, m.BlockCache.Misses)))
	send.counter(pebbleFlushes, uint64(max(0, m.Flush.Count)))
	send.counter(pebbleCompactions, uint64(max(0, m.Compact.Count)))
	send.gauge(pebbleDebt, m.Compact.EstimatedDebt)
	send.gauge(pebbleReadAmp, uint64(max(0, m.ReadAmp())))
}
