package fsm

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
)

// Applied is what raft's future for an entry holds as its response.
type Applied struct {
	Index   uint64
	Results []*pb.EventResult // one for each event
}

// Apply folds one entry. Raft calls ApplyBatch instead.
func (s *State) Apply(entry *raft.Log) any { return s.ApplyBatch([]*raft.Log{entry})[0] }

// ApplyBatch folds entries in order, all in one commit. Each response is an
// *Applied, or an error once the state has failed.
func (s *State) ApplyBatch(entries []*raft.Log) []any {
	responses := make([]any, len(entries))
	if s.hasFailed() {
		return fill(responses, ErrClosed)
	}
	timer := startTimer()
	t := s.begin(sizeOf(entries))
	defer t.batch.Close()
	for i, entry := range entries {
		responses[i] = t.applyEntry(entry)
	}
	if t.err == nil {
		t.err = s.commit(t)
	}
	if t.err != nil {
		err := fmt.Errorf("apply up to index %d: %w", entries[len(entries)-1].Index, t.err)
		s.fatal(err)
		return fill(responses, err)
	}
	timer.observe(s.metrics.seconds)
	return responses
}

func fill(responses []any, err error) []any {
	for i := range responses {
		responses[i] = err
	}
	return responses
}

// sizeOf is the room that entries with bodies need in a batch, which would else
// be copied each time it doubles. Small records may still make it grow.
func sizeOf(entries []*raft.Log) int {
	size := 16 << 10
	for _, entry := range entries {
		size += len(entry.Data) + len(entry.Data)/8
	}
	return size
}

func (s *State) begin(size int) *tx {
	s.live.RLock()
	defer s.live.RUnlock()
	return &tx{
		s:        s,
		gen:      s.live.gen,
		batch:    s.live.gen.db.NewIndexedBatchWithSize(size),
		tables:   s.live.tables,
		digests:  s.digests,
		applied:  proto.Clone(s.live.applied).(*pb.AppliedRecord),
		counters: make(map[string]*pb.CounterRecord),
	}
}

// commit makes a batch part of the state: first in the database, then for readers.
func (s *State) commit(t *tx) error {
	t.flushCounters()
	s.live.Lock()
	// A snapshot may have raised the index meanwhile, over entries without events.
	t.applied.Index = max(t.applied.Index, s.live.applied.Index)
	t.applied.Term = max(t.applied.Term, s.live.applied.Term)
	t.applied.Version = t.tables.version
	t.applied.Digests = t.digests.record(t.tables.version)
	err := t.err
	if err == nil {
		err = t.batch.Set(keyApplied, encode(t.applied), nil)
	}
	if err == nil {
		err = t.batch.Commit(pebble.NoSync)
	}
	if err != nil {
		s.live.Unlock()
		return err
	}
	s.live.tables, s.live.applied = t.tables, t.applied
	if t.staged.configuration != nil {
		s.configuration = t.staged.configuration
	}
	s.digests = t.digests
	s.marks.add(t.staged.nonces, t.staged.marks)
	// Whoever has waited for the index finds in the feed what it brought.
	s.feed.publish(&t.staged)
	s.waiters.advance(t.applied.Index)
	s.live.Unlock()

	s.metrics.applied.Set(float64(t.applied.Index))
	return nil
}

// applyEntry folds one entry and returns its response.
func (t *tx) applyEntry(entry *raft.Log) any {
	if entry.Index <= t.applied.Index {
		// Raft hands over again what a restart has in the state already.
		return &Applied{Index: entry.Index}
	}
	t.index, t.term, t.historyRows = entry.Index, entry.Term, 0
	t.applied.Index, t.applied.Term = entry.Index, entry.Term
	if entry.Type == raft.LogConfiguration {
		t.applyConfiguration(entry)
		return &Applied{Index: entry.Index}
	}
	events, payloads, err := DecodeEntry(entry.Data)
	if err != nil {
		// Every node has the same bytes, and none of them a proposer of ours.
		t.s.log.Error("entry refused", "index", entry.Index, "error", err)
		return &Applied{Index: entry.Index}
	}
	t.advanceClock(events)
	results := make([]*pb.EventResult, len(events))
	for i, event := range events {
		t.event, t.payload = event, payloads[i]
		results[i] = t.applyOnce()
	}
	t.saveResults()
	t.sweepOrphans()
	t.saveFeed()
	return &Applied{Index: entry.Index, Results: results}
}

func (t *tx) applyConfiguration(entry *raft.Log) {
	record := &pb.ConfigurationRecord{Index: entry.Index, Configuration: entry.Data}
	if err := t.batch.Set(keyConfiguration, encode(record), nil); err != nil {
		t.failed(fmt.Errorf("write configuration: %w", err))
	}
	t.staged.configuration = record
}

// applyEvent is the one switch over kinds. An unknown kind stops the node,
// unless it changes no state: a node that skipped a fact would differ from all others.
func (t *tx) applyEvent() *pb.EventResult {
	if err := CheckVersion(t.event, t.tables.version); err != nil {
		return invalid("%v", err)
	}
	switch kind := t.event.Kind.(type) {
	case *pb.Event_ContentAppended:
		return t.contentAppended(kind.ContentAppended)
	case *pb.Event_ContentAbandoned:
		return t.contentAbandoned(kind.ContentAbandoned)
	case *pb.Event_MessageAccepted:
		return t.messageAccepted(kind.MessageAccepted)
	case *pb.Event_AcceptanceAborted:
		return t.acceptanceAborted(kind.AcceptanceAborted)
	case *pb.Event_AttemptStarted:
		return t.attemptStarted(kind.AttemptStarted)
	case *pb.Event_AttemptFailed:
		return t.attemptFailed(kind.AttemptFailed)
	case *pb.Event_Delivered:
		return t.delivered(kind.Delivered)
	case *pb.Event_Bounced:
		return t.bounced(kind.Bounced)
	case *pb.Event_Frozen:
		return t.frozen(kind.Frozen)
	case *pb.Event_Dropped:
		return t.dropped(kind.Dropped)
	case *pb.Event_DelayWarned:
		return t.delayWarned(kind.DelayWarned)
	case *pb.Event_ClaimsReleased:
		return t.claimsReleased(kind.ClaimsReleased)
	case *pb.Event_Operated:
		return t.operated(kind.Operated)
	case *pb.Event_Purged:
		return t.purged(kind.Purged)
	case *pb.Event_FrozenExpired:
		return t.frozenExpired(kind.FrozenExpired)
	case *pb.Event_DestinationSet:
		return t.destinationSet(kind.DestinationSet)
	case *pb.Event_DestinationRemoved:
		return t.destinationRemoved(kind.DestinationRemoved)
	case *pb.Event_DestinationFailed:
		return t.destinationFailed(kind.DestinationFailed)
	case *pb.Event_DestinationRecovered:
		return t.destinationRecovered(kind.DestinationRecovered)
	case *pb.Event_DestinationSuspended:
		return t.destinationSuspended(kind.DestinationSuspended)
	case *pb.Event_DestinationResumed:
		return t.destinationResumed(kind.DestinationResumed)
	case *pb.Event_RetryRequested:
		return t.retryRequested(kind.RetryRequested)
	case *pb.Event_DomainSet:
		return t.domainSet(kind.DomainSet)
	case *pb.Event_DomainRemoved:
		return t.domainRemoved(kind.DomainRemoved)
	case *pb.Event_PolicySet:
		return t.policySet(kind.PolicySet)
	case *pb.Event_PolicyRemoved:
		return t.policyRemoved(kind.PolicyRemoved)
	case *pb.Event_ConfigurationApplied:
		return t.configurationApplied(kind.ConfigurationApplied)
	case *pb.Event_ClusterCreated:
		return t.clusterCreated(kind.ClusterCreated)
	case *pb.Event_NodeUp:
		return t.nodeUp(kind.NodeUp)
	case *pb.Event_NodeEligible:
		return t.nodeEligible(kind.NodeEligible)
	case *pb.Event_NodeDown:
		return t.nodeDown(kind.NodeDown)
	case *pb.Event_SettingsChanged:
		return t.settingsChanged(kind.SettingsChanged)
	case *pb.Event_TokenSet:
		return t.tokenSet(kind.TokenSet)
	case *pb.Event_TokenRevoked:
		return t.tokenRevoked(kind.TokenRevoked)
	case *pb.Event_AccountSet:
		return t.accountSet(kind.AccountSet)
	case *pb.Event_AccountRemoved:
		return t.accountRemoved(kind.AccountRemoved)
	case *pb.Event_RecipientsChanged:
		return t.recipientsChanged(kind.RecipientsChanged)
	case *pb.Event_RecipientVerified:
		return t.recipientVerified(kind.RecipientVerified)
	case *pb.Event_HistoryPruned:
		return t.historyPruned(kind.HistoryPruned)
	case *pb.Event_NodeDraining:
		return t.nodeDraining(kind.NodeDraining)
	case *pb.Event_NodeResumed:
		return t.nodeResumed(kind.NodeResumed)
	case *pb.Event_NodeRemoved:
		return t.nodeRemoved(kind.NodeRemoved)
	case *pb.Event_Restored:
		return t.restored(kind.Restored)
	case *pb.Event_VersionRaised:
		return t.versionRaised(kind.VersionRaised)
	case *pb.Event_DrillStarted:
		return t.drillStarted(kind.DrillStarted)
	case *pb.Event_DrillEnded:
		return t.drillEnded(kind.DrillEnded)
	case *pb.Event_VerifyMarked:
		return t.verifyMarked(kind.VerifyMarked)
	case *pb.Event_BulkStarted:
		return t.bulkStarted(kind.BulkStarted)
	case *pb.Event_BulkProgressed:
		return t.bulkProgressed(kind.BulkProgressed)
	case *pb.Event_BulkStopped:
		return t.bulkStopped(kind.BulkStopped)
	}
	if t.event.Ignorable {
		return resultOK
	}
	t.failed(fmt.Errorf("the log has an event at index %d that this program doesn't know: start a newer one", t.index))
	return invalid("unknown event")
}

// resultOK is shared: results are never changed.
var resultOK = &pb.EventResult{Code: pb.EventResult_CODE_OK}

func refused(code pb.EventResult_Code, format string, args ...any) *pb.EventResult {
	return &pb.EventResult{Code: code, Text: inASCII(fmt.Sprintf(format, args...))}
}

// inASCII writes what isn't ASCII as Go does in quotes. Results are state, and which
// characters %q takes for printable depends on the version of Unicode that a program
// knows: it leaves some as they are that an older one has written like this.
func inASCII(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII }) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case r <= unicode.MaxASCII:
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

func invalid(format string, args ...any) *pb.EventResult {
	return refused(pb.EventResult_CODE_INVALID, format, args...)
}

func stale(format string, args ...any) *pb.EventResult {
	return refused(pb.EventResult_CODE_STALE, format, args...)
}
