package audit

import (
	"slices"
	"strings"
	"time"

	"holdfast/test/sink"
)

// checkOverlaps wants at most one attempt at a time for each message: where one
// begins before an earlier one has ended, the log must have marked the message
// in doubt between their beginnings. Broken off transactions count.
func (b *Books) checkOverlaps(j *Journal) error {
	byID := map[string][]sink.Message{}
	for _, t := range b.Transactions {
		id, _, _ := strings.Cut(t.From, "@") // a content that broke off may lack its header
		byID[id] = append(byID[id], t)
	}
	overlaps := 0
	for id, all := range byID {
		slices.SortFunc(all, func(x, y sink.Message) int { return x.Started.Compare(y.Started) })
		for i, later := range all {
			for _, earlier := range all[:i] {
				if !later.Started.Before(earlier.Done) {
					continue
				}
				overlaps++
				marks, err := b.marksOf(id)
				if err != nil {
					return err
				}
				between := func(mark time.Time) bool {
					return mark.After(earlier.Started) && mark.Before(later.Started)
				}
				if !slices.ContainsFunc(marks, between) {
					j.Violation("%s: an attempt began at %s while that of %s went on until %s, and it wasn't marked in doubt between (marks: %v)",
						id, clock(later.Started), clock(earlier.Started), clock(earlier.Done), marks)
				}
			}
		}
	}
	j.Say("attempts at the destination: %d; of the same message at the same time: %d, each but for violations with a mark in doubt between", len(b.Transactions), overlaps)
	return nil
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }
