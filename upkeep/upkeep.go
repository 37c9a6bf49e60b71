// Package upkeep carries on what the cluster owes by itself, whoever asked for
// it: bulk operations, the end of what was deleted and can't come back any more,
// the end of reports that were frozen for too long, and the end of finished
// messages at the end of the log's retention. Each goes in pieces that are short
// for the state, with pauses in which mail goes ahead.
//
// It runs on every node, and works on the one that leads. All of its progress is
// in the log, so the next leader goes on where this one stood; where two nodes
// believe to lead, the log takes the step of one of them.
package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Cluster brings events into the log.
type Cluster interface {
	// Propose returns what applying the event came to, and at which index.
	Propose(ctx context.Context, event *pb.Event, payload []byte) (*pb.EventResult, uint64, error)
	// Leads reports whether this node leads, with a quorum behind it.
	Leads() bool
	// HandOver gives leadership away, if this node has it: to a node whose turn it is.
	HandOver(ctx context.Context) error
}

// Config is what a Keeper works on.
type Config struct {
	State   *fsm.State
	Cluster Cluster
	Now     func() time.Time // by the cluster: a wall clock that jumps ends nothing early
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

const (
	// bulkPiece is how many recipients one event of a bulk operation changes. It
	// keeps the state's goroutine busy for some ten milliseconds.
	bulkPiece = 200
	// leavingPiece is how many recipients one event lets go.
	leavingPiece = 500
	// interval is the time between looks at what has come due.
	interval = time.Second
	// maxPause bounds the pause between two pieces.
	maxPause = time.Second
)

// The kinds of upkeep, as metrics and errors name them.
const (
	kindBulk   = "bulk"
	kindPurge  = "purge"
	kindFrozen = "frozen"
	kindPrune  = "prune"
)

// Keeper does the upkeep of one node.
type Keeper struct {
	cfg    Config
	pieces *prometheus.CounterVec
	// troubles are of bulk operations, since this node leads.
	troubles map[relay.MessageID]trouble
	// handed says where those stood for which this node has given leadership away.
	handed map[relay.MessageID]handover
	stuck  atomic.Pointer[[]string] // of troubles, for Stuck; nil is none
}

// New checks the configuration.
func New(cfg Config) (*Keeper, error) {
	if cfg.State == nil || cfg.Cluster == nil || cfg.Now == nil || cfg.Logger == nil || cfg.Metrics == nil {
		return nil, errors.New("upkeep: state, cluster, clock, logger and metrics are needed")
	}
	k := &Keeper{cfg: cfg, troubles: make(map[relay.MessageID]trouble), handed: make(map[relay.MessageID]handover), pieces: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_upkeep_pieces_total", Help: "Pieces of the cluster's upkeep that this node brought into the log, by what they do.",
	}, []string{"kind"})}
	for _, kind := range []string{kindBulk, kindPurge, kindFrozen, kindPrune} {
		k.pieces.WithLabelValues(kind)
	}
	cfg.Metrics.MustRegister(k.pieces)
	return k, nil
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if k.cfg.Cluster.Leads() {
			if err := k.round(ctx); err != nil && ctx.Err() == nil {
				k.cfg.Logger.Warn("upkeep goes on later", "error", err)
			}
		} else {
			k.forget()
		}
		select {
		case <-ticker.C:
		case <-k.cfg.State.BulksChanged():
		case <-ctx.Done():
			return nil
		}
	}
}

func (k *Keeper) round(ctx context.Context) error {
	return errors.Join(
		k.bulks(ctx),
		k.inPieces(ctx, kindPurge, k.purge),
		k.inPieces(ctx, kindFrozen, k.expireFrozen),
		k.inPieces(ctx, kindPrune, k.prune),
	)
}

// goOn: another piece may follow.
func (k *Keeper) goOn(ctx context.Context) bool { return ctx.Err() == nil && k.cfg.Cluster.Leads() }

// inPieces works off what has come due, until next has no more.
func (k *Keeper) inPieces(ctx context.Context, kind string, next func(now time.Time) (*pb.Event, error)) error {
	for k.goOn(ctx) {
		now := k.cfg.Now()
		event, err := next(now)
		if err != nil || event == nil {
			return err
		}
		event.Time = now.UnixNano()
		if changed, err := k.piece(ctx, kind, event); err != nil || !changed {
			return err
		}
	}
	return nil
}

// piece brings an event into the log, waits until it is applied here, and then
// for as long as that took: half of the log's time is left to acceptances and
// deliveries, however much there is to do. It reports whether the event changed
// anything; where not, another node was quicker.
func (k *Keeper) piece(ctx context.Context, kind string, event *pb.Event) (changed bool, err error) {
	began := time.Now()
	result, index, err := k.cfg.Cluster.Propose(ctx, event, nil)
	if err == nil {
		err = k.cfg.State.WaitApplied(ctx, index)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", kind, err)
	}
	pause(ctx, min(time.Since(began), maxPause))
	switch result.Code {
	case pb.EventResult_CODE_OK:
		k.pieces.WithLabelValues(kind).Inc()
		return true, nil
	case pb.EventResult_CODE_STALE:
		return false, nil
	}
	text := fmt.Sprintf("%s: %s: %s", kind, result.Code, result.Text)
	if result.Code == pb.EventResult_CODE_NOT_ACTIVE {
		return false, errors.New(text) // of this process, not of the piece
	}
	return false, &refusal{text}
}

// refusal is the state's no to a piece.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
