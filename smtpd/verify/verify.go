package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"holdfast/netlimit"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// State is the replicated state as this node has it now.
type State interface {
	// Listed reports whether an operator listed a recipient, by its local part in any
	// case.
	Listed(domain, localPart string) (bool, error)
	// Verified is what is known of a recipient and good at a time, of the domain as a
	// whole where the local part is "", nil where nothing is.
	Verified(domain, localPart string, now time.Time) (*pb.VerifiedRecord, error)
	Destination(name string) (*pb.DestinationRecord, bool)
}

// Config is what a Verifier needs.
type Config struct {
	State State
	// Ask has the owner of a destination ask it for a recipient, whatever is known
	// where anew is set. An error says why that can't be told now.
	Ask func(ctx context.Context, destination, address string, anew bool) (pb.Verdict, *pb.Failure, error)
	Now func() time.Time
	// Patience is how long a client waits for a destination's word: 10 s by default,
	// of the 5 minutes that RFC 5321 section 4.5.3.2.3 gives it.
	Patience time.Duration
	Logger   *slog.Logger
}

const defaultPatience = 10 * time.Second

// Verifier answers for recipients. Many sessions ask it at once.
type Verifier struct {
	cfg     Config
	clients clients
}

// New makes a Verifier.
func New(cfg Config) *Verifier {
	if cfg.Patience == 0 {
		cfg.Patience = defaultPatience
	}
	return &Verifier{cfg: cfg, clients: newClients(cfg.Now)}
}

// Answer says whether a recipient is taken and why.
type Answer struct {
	// Reply refuses it; nil takes it.
	Reply  *relay.Reply
	Reason pb.CheckRecipientResponse_Reason
	// Record is what the answer goes by; nil where it goes by no call-out.
	Record *pb.VerifiedRecord
	// Failure is why the destination couldn't say it, in words that are not for
	// clients, as they may name hosts.
	Failure error
}

// Recipient answers a client's RCPT.
func (v *Verifier) Recipient(ctx context.Context, client netip.Addr, domain *pb.DomainConfig, address string) Answer {
	return v.answer(ctx, netlimit.Client(client).String(), domain, address, false)
}

// Check answers somebody, by name, who wants to know what RCPT would be answered. With
// anew the destination is asked whatever is known; where it can't say, what is known
// stays.
func (v *Verifier) Check(ctx context.Context, who string, domain *pb.DomainConfig, address string, anew bool) Answer {
	a := v.answer(ctx, who, domain, address, anew)
	if !anew || a.Reason != pb.CheckRecipientResponse_REASON_UNKNOWN {
		return a
	}
	if before, decided, err := v.known(domain, address, false); decided && err == nil {
		before.Failure = cmp.Or(a.Failure, error(a.Reply))
		return before
	}
	return a
}

// answer asks the destination only where nothing else decides, and within what who
// may have asked for.
func (v *Verifier) answer(ctx context.Context, who string, domain *pb.DomainConfig, address string, anew bool) Answer {
	a, decided, err := v.known(domain, address, anew)
	switch {
	case err != nil:
		// What the state can't tell is no ground for a refusal for good.
		v.cfg.Logger.Error("recipient can't be looked up", "to", address, "error", err)
		return unknown("it can't be looked up")
	case decided:
		return a
	}
	if why := v.unreachable(domain.Destination); why != "" {
		return unknown(why)
	}
	leave, ok := v.clients.enter(who)
	if !ok {
		return unknown("you ask for too many")
	}
	defer leave()
	return v.ask(ctx, domain, address, anew)
}

// known is the answer that list, cache and the domain's mode give.
func (v *Verifier) known(domain *pb.DomainConfig, address string, anew bool) (a Answer, decided bool, err error) {
	if domain.Verify != pb.Verify_VERIFY_CALLOUT && domain.Verify != pb.Verify_VERIFY_LISTED {
		return Answer{Reason: pb.CheckRecipientResponse_REASON_OFF}, true, nil
	}
	local, _, err := relay.SplitAddress(address)
	if err != nil {
		return a, false, err
	}
	// R13: those that are listed need nobody's word.
	listed, err := v.cfg.State.Listed(domain.Name, local)
	switch {
	case err != nil:
		return a, false, err
	case listed:
		return Answer{Reason: pb.CheckRecipientResponse_REASON_LISTED}, true, nil
	case domain.Verify == pb.Verify_VERIFY_LISTED:
		return Answer{Reply: noSuchRecipient(nil), Reason: pb.CheckRecipientResponse_REASON_NOT_LISTED}, true, nil
	case anew:
		return a, false, nil
	}
	// What is known of the domain goes first: one that takes any recipient may have
	// taken or refused this one by itself before.
	for _, part := range []string{"", local} {
		record, err := v.cfg.State.Verified(domain.Name, part, v.cfg.Now())
		if err != nil {
			return a, false, err
		}
		if a, decided = v.byRecord(record, domain); decided {
			return a, true, nil
		}
	}
	return a, false, nil
}

// byRecord is the answer that the cache gives. While a destination that takes any
// recipient can't be asked, its mail is not taken either (R12): nobody knows whether
// it would be returned.
func (v *Verifier) byRecord(record *pb.VerifiedRecord, domain *pb.DomainConfig) (Answer, bool) {
	switch record.GetVerdict() {
	case pb.Verdict_VERDICT_VALID:
		return Answer{Reason: pb.CheckRecipientResponse_REASON_VALID, Record: record}, true
	case pb.Verdict_VERDICT_INVALID:
		return Answer{Reply: noSuchRecipient(record.Failure), Reason: pb.CheckRecipientResponse_REASON_INVALID, Record: record}, true
	case pb.Verdict_VERDICT_ACCEPTS_ANY:
		a := Answer{Reason: pb.CheckRecipientResponse_REASON_ACCEPTS_ANY, Record: record}
		if why := v.notUp(domain.Destination); why != "" {
			a = unknown(why)
			a.Record = record
		}
		return a, true
	}
	return Answer{}, false
}

// unreachable says why a destination isn't asked at all: until its next probe is due
// it is known to be down.
func (v *Verifier) unreachable(name string) string {
	record, _ := v.cfg.State.Destination(name)
	if why := v.notUp(name); why != "" && (record.GetSuspended() != nil || v.cfg.Now().Before(time.Unix(0, record.GetHealth().GetNextProbe()))) {
		return why
	}
	return ""
}

func (v *Verifier) notUp(name string) string {
	record, ok := v.cfg.State.Destination(name)
	switch {
	case !ok:
		return "its mail server isn't configured"
	case record.Suspended != nil:
		return "its mail server is suspended"
	case record.Health.GetState() != pb.DestinationHealth_STATE_UP:
		return "its mail server can't be reached"
	}
	return ""
}

// ask waits for the destination's word.
func (v *Verifier) ask(ctx context.Context, domain *pb.DomainConfig, address string, anew bool) Answer {
	ctx, cancel := context.WithTimeoutCause(ctx, v.cfg.Patience, errPatience)
	defer cancel()
	verdict, failure, err := v.cfg.Ask(ctx, domain.Destination, address, anew)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = errPatience
		}
		v.cfg.Logger.Debug("recipient not verified", "to", address, "destination", domain.Destination, "reason", err)
		a := unknown(reason(err))
		a.Failure = err
		return a
	}
	now := v.cfg.Now().UnixNano()
	record := &pb.VerifiedRecord{Verdict: verdict, At: now, Destination: domain.Destination, Failure: failure}
	if a, decided := v.byRecord(record, domain); decided {
		return a
	}
	return unknown("its mail server's answer isn't clear")
}

var errPatience = errors.New("its mail server has not answered yet")

// reason is what a client is told of an error.
func reason(err error) string {
	if errors.Is(err, errPatience) {
		return errPatience.Error()
	}
	return "its mail server can't say now"
}

func unknown(why string) Answer {
	return Answer{
		Reply:  &relay.Reply{Code: 450, Enhanced: "4.4.3", Text: "recipient can't be verified now, try again later: " + why},
		Reason: pb.CheckRecipientResponse_REASON_UNKNOWN,
	}
}

// noSuchRecipient is R14. The sender's server shows it to a person, who is helped by
// what the destination said.
func noSuchRecipient(failure *pb.Failure) *relay.Reply {
	text := "no such recipient here"
	if failure != nil {
		text = fmt.Sprintf("%s, its mail server says: %s", text, said(failure))
	}
	return &relay.Reply{Code: 550, Enhanced: "5.1.1", Text: text}
}
