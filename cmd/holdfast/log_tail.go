package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) logTailCommand() *cobra.Command {
	var filter filterFlags
	var from string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Follow what happens to messages, live",
		Long: `Follow what happens to messages, in the order of the cluster's log: from now on,
from an index (--from 1234, or 1234.2 for a row of it), or from a time (--since).
It goes on until it is interrupted. When the node goes away it goes on at the
next address without a gap and without a repetition: give the addresses of all.

--state picks what brought a recipient to that state, or left it there.
` + filterHelp(searchedStates),
		Example: `  holdfast log tail
  holdfast log tail --since 10m --domain example.com
  holdfast log tail --from 1234 --from alice@example.org
  holdfast log tail --from 1234 --state failed --json`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			req, err := a.tailRequest(filter, from)
			if err != nil {
				return err
			}
			t := tail{app: a, request: req, limit: filter.limit, asJSON: asJSON}
			return t.follow(cmd)
		},
	}
	filter.add(cmd)
	for _, name := range []string{"until", "older"} {
		hide(cmd.Flags(), name)
	}
	cmd.Flags().Lookup("since").Usage = "begin at this time"
	cmd.Flags().Lookup("limit").Usage = "end after so many rows"
	flag := cmd.Flags().Lookup("from")
	flag.Value, flag.Usage = &tailFrom{position: &from, sender: &filter.from}, "begin at this raft index, or INDEX.ROW; or an address: of this sender; or both"
	addJSON(cmd, &asJSON)
	return cmd
}

// tailFrom is --from, which elsewhere is the sender alone: an address has an @, or
// is <>, and an index is a number.
type tailFrom struct {
	position, sender *string
	given            string
}

func (f *tailFrom) String() string { return f.given }
func (f *tailFrom) Type() string   { return "string" }

func (f *tailFrom) Set(s string) error {
	f.given = s
	if s == "<>" || strings.Contains(s, "@") {
		*f.sender = s
		return nil
	}
	_, _, err := parsePosition(s)
	*f.position = s
	return err
}

func (a *app) tailRequest(filter filterFlags, from string) (*pb.TailLogRequest, error) {
	if filter.until != "" || filter.older.value != 0 {
		return nil, usage("--until and --older: what is followed has no end; `holdfast log search` looks back")
	}
	req := &pb.TailLogRequest{}
	if filter.since != "" {
		if from != "" {
			return nil, usage("--from and --since both say where to begin: give one of them")
		}
		t, err := a.parseTime(filter.since)
		if err != nil {
			return nil, usage("--since: %v", err)
		}
		req.Since = timestamppb.New(t)
		filter.since = ""
	}
	if from != "" {
		var err error
		if req.Index, req.Row, err = parsePosition(from); err != nil {
			return nil, err
		}
	}
	var err error
	req.Filter, err = filter.filter(a)
	return req, err
}

func parsePosition(s string) (index uint64, row uint32, err error) {
	first, second, both := strings.Cut(s, ".")
	index, err = strconv.ParseUint(first, 10, 64)
	if err == nil && both {
		var n uint64
		n, err = strconv.ParseUint(second, 10, 32)
		row = uint32(n)
	}
	if err != nil || index == 0 {
		return 0, 0, usage("--from %s: want a raft index, from 1, or INDEX.ROW, or a sender", s)
	}
	return index, row, nil
}

// tail follows the log over the nodes that there are.
type tail struct {
	*app
	request *pb.TailLogRequest // moves on with what was shown
	limit   int
	shown   int
	asJSON  bool
	warned  bool // of having lost the node
}

const (
	// tailSilence is how long a node may say nothing: it says something every 5 s.
	tailSilence = 15 * time.Second
	// tailRetry is between two rounds through the addresses.
	tailRetry = 500 * time.Millisecond
)

var errEnough = errors.New("enough rows")

// follow ends when the user ends it, when enough was shown, or with an error that
// another node would give too. That the first node can't be reached is one.
func (t *tail) follow(cmd *cobra.Command) error {
	addresses, err := t.nodeAddresses()
	if err != nil {
		return err
	}
	for ctx := cmd.Context(); ; {
		heard := t.warned
		err := t.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
			heard = true
			return t.read(ctx, conn)
		})
		if errors.Is(err, errEnough) || ctx.Err() != nil {
			return nil //nolint:nilerr // an interrupt or the end that was asked for is no failure
		}
		if !heard || !passing(err) {
			return err
		}
		if !t.warned {
			fmt.Fprintf(t.err, "holdfast: the node is gone (%s); going on at %s\n", oneLine(err), strings.Join(addresses, " or "))
			t.warned = true
		}
		select {
		case <-time.After(tailRetry):
		case <-ctx.Done():
			return nil
		}
	}
}

// passing errors are those of a node that stops, dies or is silent.
func passing(err error) bool {
	if _, ok := errors.AsType[*noAnswerError](err); ok {
		return true
	}
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.Canceled || code == codes.DeadlineExceeded || errors.Is(err, io.EOF)
}

// read shows what one node sends.
func (t *tail) read(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewLogServiceClient(conn).TailLog(ctx, proto.CloneOf(t.request))
	if err != nil {
		return err
	}
	silence := time.AfterFunc(tailSilence, cancel)
	defer silence.Stop()
	for stale := false; ; {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		silence.Reset(tailSilence)
		t.warned = false
		if r.Stale && !stale {
			t.warnStale(true)
		}
		stale = r.Stale
		if err := t.show(r.Rows); err != nil {
			return err
		}
		t.request.Index, t.request.Row, t.request.Since = r.NextIndex, r.NextRow, nil
	}
}

func (t *tail) show(rows []*pb.TailedRow) error {
	for _, row := range rows {
		if t.limit > 0 && t.shown == t.limit {
			return errEnough
		}
		if err := t.showRow(row); err != nil {
			return err
		}
		t.shown++
		// Whatever comes in between, this row has been shown.
		t.request.Index, t.request.Row, t.request.Since = row.Entry.Index, row.Entry.Row+1, nil
	}
	if t.limit > 0 && t.shown == t.limit {
		return errEnough
	}
	return nil
}

type tailedJSON struct {
	ID   string `json:"id"`
	From string `json:"from"`
	historyJSON
}

func (t *tail) showRow(row *pb.TailedRow) error {
	h := row.Entry
	if t.asJSON {
		return t.writeJSON(tailedJSON{ID: row.MessageId, From: row.From, historyJSON: toHistoryJSON(h)})
	}
	event := screenOf(t.out).paint(eventWord(h.Kind), eventLook(h.Kind))
	_, err := fmt.Fprintf(t.out, "%s %d.%d %s %s %s\n", h.Time.AsTime().Format("2006-01-02T15:04:05.000Z"), h.Index, h.Row,
		row.MessageId, event, printable(tailed(row)))
	return err
}

// tailed is what a row has to say after its event.
func tailed(row *pb.TailedRow) string {
	h := row.Entry
	line := fmt.Sprintf("from=%s to=%s", sender(row.From), dash(strings.Join(h.Recipients, ",")))
	for _, field := range []struct{ name, value string }{{"node", h.Node}, {"relay", relayOf(h)}, {"tls", h.Tls}} {
		if field.value != "" {
			line += " " + field.name + "=" + field.value
		}
	}
	if h.Duration != nil {
		line += " took=" + h.Duration.AsDuration().Round(time.Millisecond).String()
	}
	if text := detail(h); text != "-" {
		line += ": " + text
	}
	return line
}
