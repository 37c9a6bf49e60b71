package admin

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// Health is what a node knows of itself beside the state.
type Health struct {
	// DiskFree and DiskReserve are bytes; below the reserve no mail is taken.
	DiskFree, DiskReserve int64
	// DisksLow: the nodes whose disks have room are no majority.
	DisksLow bool
	// ClockOffset is the leader's clock less this node's.
	ClockOffset time.Duration
}

// Beyond these a warning is due; the alert rules in deploy/ have the same.
const (
	clockApart  = time.Second
	entriesLate = 5000
)

// warner collects warnings.
type warner struct {
	list []*pb.GetStatusResponse_Warning
}

func (w *warner) warn(code, subject, format string, args ...any) {
	w.list = append(w.list, &pb.GetStatusResponse_Warning{Code: code, Subject: subject, Text: fmt.Sprintf(format, args...)})
}

// warnings are what an operator should look at, what stops mail first. Their
// codes are documented in docs/operate.md and stay as they are.
func (w window) warnings(status *pb.GetStatusResponse, members []Member, health Health) ([]*pb.GetStatusResponse_Warning, error) {
	var out warner
	w.warnOfNodes(&out, status, members)
	w.warnOfMachine(&out, status, health)
	w.warnOfDestinations(&out, status)
	w.warnOfPiles(&out)
	w.warnOfLimits(&out)
	if err := w.warnOfMail(&out, status); err != nil {
		return nil, err
	}
	if len(w.Domains()) == 0 {
		out.warn("not-configured", "", "no domain is configured, all mail is answered 451: `holdfast destination set` and `holdfast domain set` come first")
	}
	warnOfBulks(&out, members)
	warnOfMismatches(&out, members)
	warnOfCertificates(&out, w.now, members)
	return out.list, nil
}

func (w window) warnOfNodes(out *warner, status *pb.GetStatusResponse, members []Member) {
	if status.Stale {
		out.warn("no-quorum", "", "node %s has no quorum: it accepts and delivers nothing, and what it shows may be old", status.Node)
	}
	if status.Leader == "" {
		out.warn("no-leader", "", "node %s knows no leader", status.Node)
	}
	warnOfMembers(out, status.Nodes)
	warnOfPrograms(out, status)
	if drill, ok := w.Drill(); ok && w.now.UnixNano() < drill.Until {
		out.warn("drill", drill.Node, "a drill is under way since %s, ordered by %s: node %s, %s", stamp(drill.Started), drill.By, drill.Node,
			faultText(drill.Fault, time.Duration(drill.Duration)))
	}
	for _, member := range members {
		if member.NoLease != "" && !status.Stale {
			out.warn("no-lease", member.Name, "node %s accepts and delivers nothing: %s", member.Name, member.NoLease)
		}
	}
	warnOfLag(out, status.Nodes)
}

// warnOfLag: where a node is isn't known (0) while it is new and gets the state.
func warnOfLag(out *warner, nodes []*pb.GetStatusResponse_Node) {
	most := uint64(0)
	for _, node := range nodes {
		most = max(most, node.AppliedIndex)
	}
	for _, node := range nodes {
		if node.Alive && node.AppliedIndex != 0 && most-node.AppliedIndex > entriesLate {
			out.warn("node-lags", node.Name, "node %s is %d entries behind: its disk or its network can't keep up", node.Name, most-node.AppliedIndex)
		}
	}
}

// warnOfPrograms: a rolling upgrade is under way, or was left half done.
func warnOfPrograms(out *warner, status *pb.GetStatusResponse) {
	programs := map[string][]string{}
	var first, last *pb.GetStatusResponse_Node // by what they read
	for _, node := range status.Nodes {
		if node.Version == "" {
			continue // it has never been up
		}
		program := fmt.Sprintf("%s (state version %d)", node.Version, node.Reads)
		programs[program] = append(programs[program], node.Name)
		if first == nil || node.Reads < first.Reads {
			first = node
		}
		if last == nil || node.Reads > last.Reads {
			last = node
		}
	}
	if len(programs) < 2 {
		return
	}
	var parts []string
	for _, program := range slices.Sorted(maps.Keys(programs)) {
		parts = append(parts, fmt.Sprintf("%s on %s", program, strings.Join(programs[program], ", ")))
	}
	text := "the nodes run different programs: " + strings.Join(parts, "; ")
	if first.Reads < last.Reads {
		text += fmt.Sprintf("; the state stays at version %d until node %s has the newer one or is removed", status.StateVersion, first.Name)
	}
	out.warn("mixed-programs", "", "%s", text)
}

func (w window) warnOfMachine(out *warner, status *pb.GetStatusResponse, health Health) {
	switch free := health.DiskFree; {
	case free < health.DiskReserve:
		out.warn("disk-reserve", status.Node, "node %s has %d MiB of disk left, under its reserve of %d MiB: it answers new mail 452, delivery goes on", status.Node, free>>20, health.DiskReserve>>20)
	case health.DisksLow:
		out.warn("disk-reserve", "", "so many disks have reached their reserve that no node takes mail; delivery goes on")
	case free < 2*health.DiskReserve:
		out.warn("disk-low", status.Node, "node %s has %d MiB of disk left; under %d MiB it takes no mail", status.Node, free>>20, health.DiskReserve>>20)
	}
	if health.ClockOffset.Abs() > clockApart {
		out.warn("clock-apart", status.Node, "the clock of node %s is %s apart from the leader's; beyond two seconds it accepts and delivers nothing", status.Node, health.ClockOffset.Abs().Round(time.Millisecond))
	}
}

func (w window) warnOfDestinations(out *warner, status *pb.GetStatusResponse) {
	for _, down := range status.DestinationsDown {
		out.warn("destination-down", down.Name, "destination %s is down since %s (%s), %s for it", down.Name,
			down.Since.AsTime().Format(time.RFC3339), errorText(down.Error), recipients(w.DestinationCounter(down.Name).GetPending(), "waits", "wait"))
	}
	most := w.Settings().WarnPending
	if most == 0 {
		return
	}
	for _, record := range w.Destinations() {
		name := record.Config.GetName()
		if n := w.DestinationCounter(name).GetPending(); n >= most {
			out.warn("pending", name, "%s for destination %s: `holdfast queue list --destination %s` shows why", recipients(n, "waits", "wait"), name, name)
		}
	}
}

func (w window) warnOfMail(out *warner, status *pb.GetStatusResponse) error {
	oldest, err := w.OldestPending()
	if err != nil {
		return err
	}
	limit := w.Settings().WarnOldest
	if age := w.now.Sub(time.Unix(0, oldest)); oldest != 0 && limit > 0 && age >= limit {
		out.warn("old-mail", "", "the oldest pending message waits since %s: `holdfast queue list --older %s` shows what does",
			stamp(oldest), relay.FormatDuration(limit))
	}
	if n := status.Queue.Held; n > 0 {
		out.warn("held", "", "%s held: `holdfast queue list --state held` shows why", recipients(n, "is", "are"))
	}
	if n := status.Queue.InDoubt; n > 0 {
		out.warn("in-doubt", "", "%s in doubt: the outcome of an attempt is unknown, and the message may arrive twice", recipients(n, "is", "are"))
	}
	if n := status.Queue.Frozen; n > 0 {
		out.warn("frozen", "", "%s frozen: `holdfast queue list --state frozen` shows what nobody tries again", failedReports(n))
	}
	return nil
}

func failedReports(n uint64) string {
	if n == 1 {
		return "1 failed report is"
	}
	return fmt.Sprintf("%d failed reports are", n)
}

// recipients writes how many do something, with the verb in the right form.
func recipients(n uint64, one, many string) string {
	if n == 1 {
		return "1 recipient " + one
	}
	return fmt.Sprintf("%d recipients %s", n, many)
}

// warnOfBulks is about operations by filter that the leader can't read on. It gives
// leadership away for them, so where this lasts its successors can't either.
func warnOfBulks(out *warner, members []Member) {
	for _, member := range members {
		for _, id := range member.StuckBulks {
			subject, what := id, "operation "+id
			if id == "" {
				subject, what = member.Name, "any operation by filter"
			}
			out.warn("bulk-stuck", subject, "node %s leads and can't carry %s on, since it can't read its own rows: its log says which; "+
				"`holdfast cluster transfer NODE` has another node try, `holdfast cluster verify --deep` shows whose rows are damaged", member.Name, what)
		}
	}
}

// warnOfMismatches is about nodes whose state isn't what it should be. Two
// members may know of the same.
func warnOfMismatches(out *warner, members []Member) {
	var told []*pb.StateMismatch
	for _, member := range members {
		for _, m := range member.Mismatches {
			if slices.ContainsFunc(told, func(other *pb.StateMismatch) bool { return proto.Equal(other, m) }) {
				continue
			}
			told = append(told, m)
			out.warn("state-mismatch", m.Node, "the state of node %s is damaged in %s (%s): `holdfast cluster verify --deep` shows it; replace the node", m.Node, m.Family, m.Text)
		}
	}
}

func errorText(e *pb.DeliveryError) string {
	if e == nil {
		return "cause unknown"
	}
	return describe(&pb.Failure{Cause: e.Cause, Phase: e.Phase, Host: e.Host, Code: e.Code, Enhanced: e.Enhanced, Text: e.Text})
}
