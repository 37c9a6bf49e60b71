package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "holdfast/proto/holdfast/v1"
)

// writeJSON writes one object as a line of its own.
func (a *app) writeJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// printable replaces control characters: a remote's reply must not steer the
// operator's terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}

// warnStale tells on stderr, so that stdout stays what a script expects.
func (a *app) warnStale(stale bool) {
	if stale {
		a.warn("stale: the node has no quorum and answers from its own state")
	}
}

// warnUnconfirmed tells of a change that was made and isn't in effect everywhere yet.
func (a *app) warnUnconfirmed(why string) {
	if why != "" {
		a.warn("done, but " + printable(why) + "; `holdfast status` shows which node is behind")
	}
}

func (a *app) warn(text string) {
	fmt.Fprintln(a.err, screenOf(a.err).paint("holdfast: "+text, yellow))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func sender(from string) string {
	if from == "" {
		return "<>"
	}
	return from
}

// stateWord is a state in the contract's word.
func stateWord(state pb.RecipientState) string {
	return strings.ToLower(strings.TrimPrefix(state.String(), "RECIPIENT_STATE_"))
}

// stateLook is how a state looks: what has ended well, what waits for an
// operator, and what has ended otherwise.
func stateLook(state pb.RecipientState) look {
	switch state {
	case pb.RecipientState_RECIPIENT_STATE_DELIVERED:
		return green
	case pb.RecipientState_RECIPIENT_STATE_HELD:
		return yellow
	case pb.RecipientState_RECIPIENT_STATE_FROZEN, pb.RecipientState_RECIPIENT_STATE_BOUNCED,
		pb.RecipientState_RECIPIENT_STATE_DROPPED, pb.RecipientState_RECIPIENT_STATE_DELETED:
		return red
	}
	return plain
}

// timeJSON is RFC 3339 in UTC to the millisecond, null where there is none.
func timeJSON(t *timestamppb.Timestamp) *string {
	if t == nil {
		return nil
	}
	s := t.AsTime().UTC().Format("2006-01-02T15:04:05.000Z")
	return &s
}

// orNull is null for a zero value.
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// describeError is a failure in one line, the remote's own words last.
func describeError(e *pb.DeliveryError) string {
	if e == nil {
		return "-"
	}
	parts := []string{fmt.Sprintf("%s at %s", e.Cause, e.Phase)}
	if e.Host != "" {
		parts = append([]string{e.Host + ":"}, parts...)
	}
	if e.Code != 0 || e.Text != "" {
		parts[len(parts)-1] += ":"
	}
	if e.Code != 0 {
		parts = append(parts, fmt.Sprint(e.Code))
	}
	for _, part := range []string{e.Enhanced, e.Text} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, " ")
}

// ask wants a yes before anything is changed.
func (a *app) ask() error {
	fmt.Fprint(a.out, "Go on? [y/N] ")
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	if answer != "y" && answer != "yes" {
		return errors.New("not confirmed, nothing was changed")
	}
	return nil
}

// bar is a progress bar of 30 cells.
func bar(done, all uint64) string {
	const cells = 30
	full := int(cells * min(done, all) / all)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", cells-full) + "]"
}

// progress overwrites one line on a terminal, and says nothing elsewhere.
func (a *app) progress(format string, args ...any) {
	if screenOf(a.err).terminal {
		fmt.Fprintf(a.err, "\r\x1b[K"+format, args...)
	}
}

func (a *app) endProgress() {
	if screenOf(a.err).terminal {
		fmt.Fprint(a.err, "\r\x1b[K")
	}
}
