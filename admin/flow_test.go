package admin_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// Mail that piles up at a destination which is up is warned of, once it has for
// half an hour; mail that only waits is not, nor what another warning explains.
func TestPilingUpIsWarnedOf(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	now := admintest.Now
	pass := func(minutes, perMinute int) {
		t.Helper()
		for range minutes {
			now = now.Add(time.Minute)
			for range perMinute {
				w.Accept(time.Minute, "a@x.test", fifty("one.test")...)
			}
			if err := w.Flow.Sample(now); err != nil {
				t.Fatal(err)
			}
		}
	}
	warned := func() *pb.GetStatusResponse_Warning {
		for _, warning := range statusOf(t, c).Warnings {
			if warning.Code == "piling-up" {
				return warning
			}
		}
		return nil
	}
	pass(25, 1)
	if got := warned(); got != nil {
		t.Errorf("after 25 minutes: %v", got)
	}
	pass(10, 1)
	got := warned()
	if got == nil || got.Subject != "one" || !strings.Contains(got.Text, "1500 recipients came in and 0 left, 1750 recipients wait now") {
		t.Errorf("after 35 minutes: %v", got)
	}
	w.BringDown("one")
	if got := warned(); got != nil || !slices.Contains(warningCodes(statusOf(t, c)), "destination-down") {
		t.Errorf("while it is down: %v", got)
	}
	w.BringUp("one")
	if warned() == nil {
		t.Error("no warning once it is up again")
	}
	pass(11, 0)
	if got := warned(); got != nil {
		t.Errorf("eleven minutes after the last message: %v", got)
	}
}

// fifty are addresses at a domain.
func fifty(domain string) []string {
	var all []string
	for n := range 50 {
		all = append(all, strings.Repeat("u", n+1)+"@"+domain)
	}
	return all
}
