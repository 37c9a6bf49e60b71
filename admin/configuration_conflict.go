package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/admin/configfile"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// comparedWith is the revision since which nothing may have changed of what a file
// changes, 0 where it is compared with nothing, and whether that is because its
// own is another cluster's. This node then has that revision.
func (s *settingsService) comparedWith(ctx context.Context, own configfile.Revision, options *pb.ApplyConfigurationRequest_Options) (index uint64, foreign bool, err error) {
	switch {
	case options.Revision != 0:
		index = options.Revision
	case own.Cluster != "" && own.Cluster != s.State.ClusterID():
		foreign = true
	default:
		index = own.Index
	}
	if options.Force {
		return 0, foreign, nil
	}
	return index, foreign, s.reach(ctx, index)
}

// reach waits for a revision that comes from a node that is ahead of this one. What is
// planned before would take all that was changed up to the revision for changes since.
func (s *settingsService) reach(ctx context.Context, index uint64) error {
	if s.State.AppliedIndex() >= index {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	if err := s.Cluster.Barrier(ctx); err == nil {
		// What an export was made from was committed before it was handed out.
		if last := s.State.AppliedIndex(); last < index {
			return invalid("revision", "revision %d isn't in this cluster's log, which ends at %d: `holdfast export` makes a new file", index, last)
		}
		return nil
	}
	switch err := s.State.WaitApplied(ctx, index); {
	case errors.Is(err, fsm.ErrClosed):
		return readError(err, "the state")
	case err != nil:
		return status.Errorf(codes.Unavailable, "no quorum, or this node is behind: it has the log up to %d, and revision %d is later; nothing was changed; `holdfast status` shows which nodes answer", s.State.AppliedIndex(), index)
	}
	return nil
}

// checkRevision refuses to overwrite what was changed since the file was made:
// of what the plan changes, all must be as it was at that index. What others
// changed beside it doesn't matter.
func (s *settingsService) checkRevision(ctx context.Context, p *plan, index uint64) error {
	base, err := s.window(ctx)
	if err != nil {
		return err
	}
	defer base.release()
	if index >= base.Configured() {
		return nil // however long ago: what it was then is what it is
	}
	switch err := base.Rewind(index); {
	case errors.Is(err, fsm.ErrForgotten):
		return status.Errorf(codes.Aborted, "the file is of index %d, and what was changed since isn't kept so far back: make a new one with `holdfast export`, or add --force", index)
	case err != nil:
		return readError(err, "the configuration of the file's revision")
	}
	var conflicts []configfile.Problem
	for _, d := range p.differences {
		texts := p.conflict(base, d)
		if text := p.listConflict(d, index); text != "" {
			texts = append(texts, text)
		}
		for _, text := range texts {
			conflicts = append(conflicts, configfile.Problem{Line: p.lines[d.Kind+" "+d.Name], Text: text})
		}
	}
	if len(conflicts) == 0 {
		return nil
	}
	return problemsError(codes.Aborted, conflicts,
		fmt.Sprintf("%s made since the file's revision %d would be overwritten, nothing was changed: `holdfast export` has what is set now, --force overwrites it", numbered(len(conflicts), "change"), index))
}

// conflict says who changed what a difference is about, and how.
func (p *plan) conflict(base window, d *pb.ConfigurationDifference) []string {
	then, now := base.valuesOf(d.Kind, d.Name), p.valuesOf(d.Kind, d.Name)
	if then != nil && now != nil && losesPassword(d) {
		before, _ := base.Destination(d.Name)
		after, _ := p.View.Destination(d.Name)
		then, now = withPasswords(then, now, before.Config, after.Config)
	}
	touched := make(map[string]bool)
	for _, v := range d.Values {
		touched[v.Key] = true
	}
	before, after := make(map[string]string), make(map[string]string)
	for _, v := range then {
		before[v.Key] = v.Text
	}
	for _, v := range now {
		after[v.Key] = v.Text
	}
	var changes []string
	for _, v := range append(now, then...) {
		if before[v.Key] == after[v.Key] || d.Kind == configfile.Settings && !touched[v.Key] {
			continue
		}
		changes = append(changes, fmt.Sprintf("%s %s -> %s", v.Key, orNone(before[v.Key]), orNone(after[v.Key])))
		delete(before, v.Key)
		delete(after, v.Key)
	}
	subject := strings.TrimSpace(d.Kind + " " + d.Name)
	switch {
	case d.Kind != configfile.Settings && then == nil && now != nil:
		return []string{subject + " was created " + p.who(d.Kind, d.Name) + " since the file was made"}
	case d.Kind != configfile.Settings && then != nil && now == nil:
		return []string{subject + " was removed " + p.who(d.Kind, d.Name) + " since the file was made"}
	case len(changes) == 0:
		return nil
	}
	return []string{subject + " was changed " + p.who(d.Kind, d.Name) + " since the file was made: " + strings.Join(changes, ", ")}
}

func orNone(text string) string {
	if text == "" {
		return "(none)"
	}
	return text
}

func (p *plan) who(kind, name string) string {
	last, err := p.LastChange(kind, name)
	if err != nil {
		p.log.Warn("who changed the configuration isn't known", "subject", kind+" "+name, "error", err)
	}
	if last.By == "" {
		return fmt.Sprintf("at index %d", last.Index)
	}
	text := fmt.Sprintf("by %s at %s (index %d", last.By, last.At.UTC().Format(time.RFC3339), last.Index)
	if last.File {
		text += ", with a file"
	}
	return text + ")"
}

// valuesOf is something as a file has it, nil where there is none.
func (w window) valuesOf(kind, name string) []configfile.Value {
	switch kind {
	case configfile.Settings:
		return configfile.OfSettings(w.Settings())
	case configfile.Policy:
		if p, ok := w.Policy(name); ok {
			return configfile.OfPolicy(p)
		}
	case configfile.Destination:
		if d, ok := w.Destination(name); ok {
			return configfile.OfDestination(d.Config)
		}
	case configfile.Domain:
		if d, ok := w.Domain(name); ok {
			return configfile.OfDomain(d)
		}
	}
	return nil
}
