package fsm

import (
	"encoding/binary"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// audit reads a whole state and compares what is kept twice: digests with rows,
// indexes and counters with records, memory with what a restart would load.
type audit struct {
	t tester
	s *State

	rows       map[family]map[string][]byte
	messages   map[relay.MessageID]*pb.MessageRecord
	recipients map[relay.MessageID]map[uint32]*pb.RecipientRecord
}

func checkState(t tester, s *State) {
	t.Helper()
	checkConsistent(t, s)
	gen, err := s.acquire()
	if err != nil {
		t.Fatalf("acquire: %v", err)
	}
	defer gen.release()
	a := &audit{
		t: t, s: s, rows: make(map[family]map[string][]byte),
		messages:   make(map[relay.MessageID]*pb.MessageRecord),
		recipients: make(map[relay.MessageID]map[uint32]*pb.RecipientRecord),
	}
	a.read(gen.db)
	a.counters()
	a.places()
	a.claims()
	a.contents()
	a.histories()
	a.verified()
	a.memory(gen.db)
}

func (a *audit) read(db pebble.Reader) {
	err := scan(db, nil, func(key, value []byte) error {
		f := family(key[0])
		if a.rows[f] == nil {
			a.rows[f] = make(map[string][]byte)
		}
		a.rows[f][string(key)] = slices.Clone(value)
		switch f {
		case famMessages:
			m := &pb.MessageRecord{}
			a.messages[relay.MessageID(key[1:])] = m
			return proto.Unmarshal(value, m)
		case famRecipients:
			id, r := relay.MessageID(key[1:17]), &pb.RecipientRecord{}
			if a.recipients[id] == nil {
				a.recipients[id] = make(map[uint32]*pb.RecipientRecord)
			}
			a.recipients[id][binary.BigEndian.Uint32(key[17:])] = r
			return proto.Unmarshal(value, r)
		}
		return nil
	})
	if err != nil {
		a.t.Fatalf("read state: %v", err)
	}
}

func (a *audit) counters() {
	want := make(map[string]*pb.CounterRecord)
	add := func(kind byte, name string, r *pb.RecipientRecord) {
		key := string(keyOfCounter(kind, name))
		if want[key] == nil {
			want[key] = &pb.CounterRecord{}
		}
		c := want[key]
		switch r.State {
		case pending:
			c.Pending++
		case held:
			c.Held++
		case frozenSt:
			c.Frozen++
		case done:
			c.Delivered++
		default:
			c.Ended++
		}
		if (r.State == pending || r.State == held || r.State == frozenSt) && r.InDoubt > 0 {
			c.InDoubt++
		}
		if r.UndoUntil != 0 {
			c.Undoable++
		}
	}
	for id, recipients := range a.recipients {
		m := a.messages[id]
		if m == nil {
			a.t.Errorf("recipients of a missing message %s", id)
			continue
		}
		open := uint32(0)
		shares := map[string]uint32{}
		for _, r := range recipients {
			if isOpen(r.State) {
				shares[countedDomain(r)]++
			}
		}
		for _, r := range recipients {
			domain := r.Domain
			if r.Elsewhere {
				domain = ""
			}
			add('d', domain, r)
			add('D', r.Destination, r)
			if isOpen(r.State) || r.UndoUntil != 0 {
				open++
			}
		}
		for _, share := range m.Shares {
			if shares[share.Domain] != share.Open || share.Open == 0 {
				a.t.Errorf("message %s has %d open at %s, its recipients say %d", id, share.Open, share.Domain, shares[share.Domain])
			}
			delete(shares, share.Domain)
			c := want[string(keyOfCounter('d', share.Domain))]
			c.Messages++
			c.Bytes += m.Content.Size
		}
		if len(shares) > 0 {
			a.t.Errorf("message %s: shares of %v are missing", id, shares)
		}
		if m.Open != open || int(m.Recipients) != len(recipients) {
			a.t.Errorf("message %s has %d of %d open, its recipients say %d of %d",
				id, m.Open, m.Recipients, open, len(recipients))
		}
	}
	for key, value := range a.rows[famListed] {
		domain, _, _ := strings.Cut(key[1:], "\x00")
		counter := string(keyOfCounter('d', domain))
		if want[counter] == nil {
			want[counter] = &pb.CounterRecord{}
		}
		want[counter].Listed++
		if _, ok := lookup(a.s.published().domains, domain); !ok || proto.Unmarshal(value, &pb.ListedRecord{}) != nil {
			a.t.Errorf("listed %q: %x, configured %v", key, value, ok)
		}
	}
	for key, value := range a.rows[famVerified] {
		domain, _, _ := strings.Cut(key[1:], "\x00")
		counter, record := string(keyOfCounter('d', domain)), &pb.VerifiedRecord{}
		count, ok := lookup(a.s.published().counters, counter)
		if err := proto.Unmarshal(value, record); err != nil || !ok || record.Index == 0 {
			a.t.Errorf("verdict %q: %v, %v, counted %v", key, record, err, ok)
		}
		if record.Index <= count.GetForgottenIndex() {
			continue
		}
		if _, ok := lookup(a.s.published().domains, domain); !ok {
			a.t.Errorf("verdict %q is counted, its domain is removed", key)
		}
		if want[counter] == nil {
			want[counter] = &pb.CounterRecord{}
		}
		want[counter].Verified++
	}
	for key, value := range a.rows[famCounters] {
		got := &pb.CounterRecord{}
		if err := proto.Unmarshal(value, got); err != nil {
			a.t.Fatalf("counter %q: %v", key, err)
		}
		if got.Listed > a.s.caps.listed || got.Listed > 0 && got.ListedIndex == 0 {
			a.t.Errorf("counter %q: %v", key, got)
		}
		got.ListedIndex, got.ForgottenIndex = 0, 0
		got.Duplicates = 0                   // counted from events, kept nowhere else
		got.Delivered -= got.PrunedDelivered // their recipients are gone
		got.Ended -= got.PrunedEnded
		got.PrunedDelivered, got.PrunedEnded = 0, 0
		if want[key] == nil {
			want[key] = &pb.CounterRecord{} // all its messages were taken back
		}
		if !proto.Equal(got, want[key]) {
			a.t.Errorf("counter %q: %v, recipients say %v", key, got, want[key])
		}
		delete(want, key)
	}
	for key := range want {
		a.t.Errorf("counter %q is missing", key)
	}
}

// places compares the queue, the open rows and the search index with what the
// records say.
func (a *audit) places() {
	queue, open, index, ended := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	leaving := map[string]bool{}
	for id, m := range a.messages {
		if (m.EndedAt != 0) != (m.Open == 0) {
			a.t.Errorf("message %s ended at %d with %d open recipients", id, m.EndedAt, m.Open)
		}
		if m.Open == 0 {
			ended[string(endedKey(&message{id: id, rec: m}))] = true
		}
		index[string(keyOfIndex(indexFrom, m.Envelope.GetFrom(), id))] = true
		if m.HeaderMessageId != "" {
			index[string(keyOfHeader(m.HeaderMessageId, id))] = true
		}
		for number, r := range a.recipients[id] {
			known := func(address, domain string) {
				index[string(keyOfIndex(indexTo, address, id))] = true
				index[string(keyOfIndex(indexDomain, domain, id))] = true
				if domain != relay.DomainOf(address) {
					index[string(keyOfIndex(indexTo, "*@"+relay.DomainOf(address), id))] = true
				}
			}
			known(r.Recipient.Address, r.Domain)
			if slices.Contains(rareStates, r.State) {
				index[string(keyOfState(r.State, id))] = true
			}
			for _, earlier := range r.Earlier {
				known(earlier.Address, domainOf(earlier))
			}
			if key := leavingKey(&message{id: id, rec: m}, number, r); key != nil {
				leaving[string(key)] = true
			}
			if r.UndoUntil != 0 && r.State != deletedSt || r.Ordered != nil && !isOpen(r.State) || r.Elsewhere && r.State == pending {
				a.t.Errorf("recipient %d of %s: %v", number, id, r)
			}
			if r.State == pending && r.Claim == nil && r.Ordered == nil {
				queue[string(keyOfQueue(r.Destination, laneOf(m, r), r.NextAttempt, id, number))] = true
			}
			class := map[pb.RecipientState]Class{pending: 'p', held: 'h', frozenSt: 'z'}[r.State]
			if class == 'p' {
				class = PendingClass(m, r)
			}
			if class != 0 {
				since := m.AcceptedAt
				if r.RetentionFrom != 0 {
					since = r.RetentionFrom
				}
				open[string(keyOfOpen(r.Domain, class, since, id, number))] = true
			}
		}
	}
	a.sameKeys("queue", famQueue, queue)
	a.sameKeys("open", famOpen, open)
	a.states(index)
	a.feed(index)
	a.sameKeys("index", famIndex, index)
	a.sameKeys("ended", famEnded, ended)
	a.sameKeys("leaving", famLeaving, leaving)
}

// states adds the rows of those who left such a state again, if only within the
// entry that brought them to it.
func (a *audit) states(index map[string]bool) {
	for key := range a.rows[famIndex] {
		if key[1] == indexState && a.messages[relay.MessageID([]byte(key[3:]))] != nil {
			index[key] = true
		}
	}
	for key := range a.rows[famPast] {
		if family(key[1]) == famRecipients && a.messages[relay.MessageID([]byte(key[2:18]))] == nil {
			a.t.Errorf("past of a missing message: %x", key)
		}
	}
}

// feed: each row of history is on the feed, once, at its place. The clock's rows
// are in order of index.
func (a *audit) feed(index map[string]bool) {
	want := make(map[Position]string)
	for id, m := range a.messages {
		want[Position{m.AcceptedIndex, m.AcceptedRow}] = string(feedAccepted) + string(id[:])
	}
	for key := range a.rows[famHistory] {
		at := Position{binary.BigEndian.Uint64([]byte(key[17:])), binary.BigEndian.Uint32([]byte(key[25:]))}
		want[at] = string(feedHistory) + key[1:17]
	}
	var last uint64
	for _, key := range slices.Sorted(maps.Keys(a.rows[famIndex])) {
		value := a.rows[famIndex][key]
		switch key[1] {
		case indexFeed:
			index[key] = true
			at := Position{Index: binary.BigEndian.Uint64([]byte(key[2:]))}
			for ; len(value) > 0; value, at = value[feedItem:], at.Behind() {
				item := string(value[:feedItem])
				// What was taken back is still on the feed, though its id may be in use again.
				if want[at] == item {
					delete(want, at)
				}
			}
		case indexClock:
			index[key] = true
			at := binary.BigEndian.Uint64(value)
			if at <= last {
				a.t.Errorf("the clock goes from index %d to %d", last, at)
			}
			last = at
		}
	}
	for at, item := range want {
		if at.Index < a.s.live.applied.Forgotten {
			continue
		}
		a.t.Errorf("the feed lacks %x at %v", item, at)
	}
}

func (a *audit) sameKeys(name string, f family, want map[string]bool) {
	for key := range a.rows[f] {
		if !want[key] {
			a.t.Errorf("%s has a row that no record asks for: %q", name, key)
		}
	}
	for key := range want {
		if _, ok := a.rows[f][key]; !ok {
			a.t.Errorf("%s lacks %q", name, key)
		}
	}
}

func (a *audit) claims() {
	want := make(map[string]*pb.ClaimRecord)
	for id, recipients := range a.recipients {
		for _, number := range slices.Sorted(maps.Keys(recipients)) {
			r := recipients[number]
			if r.Claim == nil {
				if r.State == pending && r.Ordered != nil && !isReturning(r) {
					a.t.Errorf("recipient %d of %s has an order that waits for nothing: %v", number, id, r)
				}
				continue
			}
			if r.State != pending {
				a.t.Errorf("recipient %d of %s is claimed, but %v", number, id, r.State)
			}
			key := string(keyOfPair(famClaims, r.Claim.Incarnation, r.Claim.Attempt))
			if want[key] == nil {
				want[key] = &pb.ClaimRecord{MessageId: id[:], Destination: r.Destination, Probe: r.Probe, ClaimedAt: r.ClaimedAt}
			}
			want[key].Recipients = append(want[key].Recipients, number)
		}
	}
	inMemory := 0
	for key, value := range a.rows[famClaims] {
		got := &pb.ClaimRecord{}
		if err := proto.Unmarshal(value, got); err != nil {
			a.t.Fatalf("claim %x: %v", key, err)
		}
		slices.Sort(got.Recipients)
		if !proto.Equal(got, want[key]) {
			a.t.Errorf("claim %x: %v, recipients say %v", key, got, want[key])
		}
		incarnation, attempt := binary.BigEndian.Uint64([]byte(key[1:])), binary.BigEndian.Uint64([]byte(key[9:]))
		if a.s.sessions[incarnation] == nil {
			a.t.Errorf("claim %x of an incarnation that has ended", key)
		}
		if _, ok := a.s.claims.get(incarnation, attempt); ok {
			inMemory++
		}
		delete(want, key)
	}
	for key := range want {
		a.t.Errorf("recipients name claim %x, which has no row", key)
	}
	if inMemory != len(a.rows[famClaims]) {
		a.t.Errorf("%d of %d claims are in memory", inMemory, len(a.rows[famClaims]))
	}
}

// contents: each stored byte belongs to an open message or to an upload.
func (a *audit) contents() {
	pieces, content := map[string]bool{}, map[string]bool{}
	for id, m := range a.messages {
		if m.Open == 0 {
			continue
		}
		size := uint64(0)
		for n := range max(1, m.Content.Pieces) {
			key := string(keyOfPart(famContent, id, n))
			content[key] = true
			size += uint64(len(a.rows[famContent][key]))
			if m.Content.Pieces > 0 {
				pieces[string(keyOfPart(famPieces, id, n))] = true
			}
		}
		if size != m.Content.Size {
			a.t.Errorf("message %s has %d bytes of %d", id, size, m.Content.Size)
		}
	}
	for key, value := range a.rows[famUploads] {
		var upload pb.UploadRecord
		if err := proto.Unmarshal(value, &upload); err != nil {
			a.t.Fatalf("upload %x: %v", key, err)
		}
		found := uint32(0)
		for piece := range a.rows[famPieces] {
			if piece[1:17] == key[1:] {
				found++
				pieces[piece] = true
				content[string(famContent)+piece[1:]] = true
			}
		}
		if a.s.sessions[upload.Incarnation] != nil && found != upload.Pieces {
			a.t.Errorf("upload %x has %d pieces of %d", key, found, upload.Pieces)
		}
	}
	a.sameKeys("pieces", famPieces, pieces)
	a.sameKeys("content", famContent, content)
}

// verified: each verdict has its place among those that go, and nothing else has.
func (a *audit) verified() {
	order := map[string]bool{}
	for key, value := range a.rows[famVerified] {
		record := &pb.VerifiedRecord{}
		if err := proto.Unmarshal(value, record); err != nil {
			a.t.Fatalf("verdict %q: %v", key, err)
		}
		order[string(keyOfVerifiedUntil(record.Until, []byte(key)))] = true
		ofDomain := record.Verdict == pb.Verdict_VERDICT_ACCEPTS_ANY || record.Verdict == pb.Verdict_VERDICT_SELECTIVE
		ofRecipient := record.Verdict == pb.Verdict_VERDICT_VALID || record.Verdict == pb.Verdict_VERDICT_INVALID
		if strings.HasSuffix(key, "\x00") != ofDomain || ofRecipient == ofDomain || record.Until <= record.At ||
			(record.Failure != nil) != (record.Verdict == pb.Verdict_VERDICT_INVALID) {
			a.t.Errorf("verdict %q: %v", key, record)
		}
	}
	if n := len(order); n > int(a.s.caps.verified) {
		a.t.Errorf("%d verdicts are kept, %d at most", n, a.s.caps.verified)
	}
	a.sameKeys("verified-until", famVerifiedUntil, order)
}

func (a *audit) histories() {
	for key := range a.rows[famHistory] {
		if a.messages[relay.MessageID([]byte(key[1:17]))] == nil {
			a.t.Errorf("history of a missing message: %x", key)
		}
	}
}

// memory compares what Apply keeps in memory with what a restart would load.
func (a *audit) memory(db pebble.Reader) {
	sessions, err := loadSessions(db)
	if err != nil {
		a.t.Fatalf("load sessions: %v", err)
	}
	if len(sessions) != len(a.s.sessions) {
		a.t.Errorf("%d sessions, %d loaded", len(a.s.sessions), len(sessions))
	}
	for incarnation, loaded := range sessions {
		kept := a.s.sessions[incarnation]
		if kept == nil || !proto.Equal(kept.record, loaded.record) || !slices.Equal(kept.raw, loaded.raw) ||
			!sameRows(kept.rows, loaded.rows) || !slices.Equal(kept.tombstones, loaded.tombstones) ||
			!maps.EqualFunc(kept.results, loaded.results, func(x, y *pb.EventResult) bool { return proto.Equal(x, y) }) {
			a.t.Errorf("session %x: kept %+v, loaded %+v", incarnation, kept, loaded)
		}
	}
	uploads, err := loadUploads(db)
	if err != nil {
		a.t.Fatalf("load uploads: %v", err)
	}
	if !maps.EqualFunc(uploads, a.s.uploads, func(x, y *pb.UploadRecord) bool { return proto.Equal(x, y) }) {
		a.t.Errorf("uploads: kept %v, loaded %v", a.s.uploads, uploads)
	}
	if orphans := uploads.orphaned(sessions); !maps.Equal(orphans, a.s.orphans) {
		a.t.Errorf("orphans: kept %v, loaded %v", a.s.orphans, orphans)
	}
	loaded, err := loadTables(db)
	if err != nil {
		a.t.Fatalf("load tables: %v", err)
	}
	kept := a.s.published()
	sameRecords(a.t, "domains", list(kept.domains), list(loaded.domains))
	sameRecords(a.t, "destinations", list(kept.destinations), list(loaded.destinations))
	sameRecords(a.t, "policies", list(kept.policies), list(loaded.policies))
	sameRecords(a.t, "nodes", list(kept.nodes), list(loaded.nodes))
	sameRecords(a.t, "tokens", list(kept.tokens), list(loaded.tokens))
	sameRecords(a.t, "accounts", list(kept.accounts), list(loaded.accounts))
	sameRecords(a.t, "counters", list(kept.counters), list(loaded.counters))
	if !proto.Equal(kept.settings, loaded.settings) {
		a.t.Errorf("settings: kept %v, loaded %v", kept.settings, loaded.settings)
	}
	if !slices.Equal(kept.eligible, loaded.eligible) {
		a.t.Errorf("eligible: kept %v, loaded %v", kept.eligible, loaded.eligible)
	}
}

func sameRows(kept, loaded []resultsRow) bool {
	return slices.EqualFunc(kept, loaded, func(x, y resultsRow) bool { return reflect.DeepEqual(x, y) })
}

func sameRecords[T proto.Message](t tester, name string, kept, loaded []T) {
	t.Helper()
	if !slices.EqualFunc(kept, loaded, func(x, y T) bool { return proto.Equal(x, y) }) {
		t.Errorf("%s: kept %v, loaded %v", name, kept, loaded)
	}
}

// digestsOf are the digests that readers see.
func digestsOf(t tester, s *State) []*pb.AppliedRecord_Digest {
	t.Helper()
	v, err := s.View()
	if err != nil {
		t.Fatalf("view: %v", err)
	}
	defer v.Close()
	return v.Digests()
}

func checkSameDigests(t tester, what string, got, want []*pb.AppliedRecord_Digest) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d digests, want %d", what, len(got), len(want))
	}
	for i := range want {
		if !proto.Equal(got[i], want[i]) {
			t.Errorf("%s: digest %v, want %v", what, got[i], want[i])
		}
	}
}
