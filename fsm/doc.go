// Package fsm folds the log of events into the replicated state.
//
// A raft entry goes through it in these steps:
//
//  1. DecodeEntry splits it into events and their payloads (entry.go).
//  2. ApplyBatch opens one write transaction for all entries that raft hands
//     over together (apply.go, tx.go).
//  3. A repeated event is answered from its session (apply_session.go); any
//     other goes to the one apply function of its kind (apply_*.go), which
//     reads and writes rows by family (keys.go) and nothing else.
//  4. The rows, the digests and the applied index are committed to Pebble as one
//     batch; only then do readers (view.go) and the scheduler (feed.go) see it.
//
// The database has no write-ahead log of its own: the raft log is that. Its
// live files are the snapshot (snapshot.go), which a lagging follower receives
// as a checkpoint (install.go) and opens as its next generation (generation.go).
package fsm
