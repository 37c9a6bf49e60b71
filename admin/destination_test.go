package admin_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// Partial changes made at the same time don't undo each other, nor does one of
// a destination undo one of a domain.
func TestConcurrentChangesAllHold(t *testing.T) {
	w := admintest.Start(t)
	c := dial(t, w)
	host := func(n int) []*pb.DestinationHost {
		return []*pb.DestinationHost{{Address: fmt.Sprintf("mail%d.example.com:25", n)}}
	}
	if _, err := c.SetDestination(t.Context(), &pb.SetDestinationRequest{Name: "office", Hosts: host(0)}); err != nil {
		t.Fatal(err)
	}
	const rounds = 20
	var group sync.WaitGroup
	for _, change := range []func(n int) *pb.SetDestinationRequest{
		func(n int) *pb.SetDestinationRequest {
			return &pb.SetDestinationRequest{Name: "office", Hosts: host(n)}
		},
		func(n int) *pb.SetDestinationRequest {
			return &pb.SetDestinationRequest{Name: "office", Slots: new(uint32(n))}
		},
		func(int) *pb.SetDestinationRequest {
			return &pb.SetDestinationRequest{Name: "office", Tls: new("require"), On_5Xx: new("hold")}
		},
	} {
		group.Go(func() {
			for n := range rounds {
				if _, err := c.SetDestination(t.Context(), change(n+1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	r, err := c.GetDestination(t.Context(), &pb.GetDestinationRequest{Name: "office"})
	if err != nil {
		t.Fatal(err)
	}
	d := r.Destination
	if d.Slots != rounds || d.Hosts[0].Address != host(rounds)[0].Address || d.Tls != "require" || d.On_5Xx != "hold" {
		t.Errorf("the destination is %v", d)
	}
}

func TestDestinationSettings(t *testing.T) {
	w := admintest.Start(t)
	c := dial(t, w)
	set := func(req *pb.SetDestinationRequest) (*pb.Destination, error) {
		req.Name = "office"
		r, err := c.SetDestination(t.Context(), req)
		return r.GetDestination(), err
	}
	for _, tt := range []struct {
		req  *pb.SetDestinationRequest
		text string
	}{
		{&pb.SetDestinationRequest{}, "say where it is"},
		{&pb.SetDestinationRequest{Mx: new("192.0.2.1")}, "not a domain name"},
		{&pb.SetDestinationRequest{Mx: new("exa mple.com")}, "not a domain name"},
		{&pb.SetDestinationRequest{Mx: new("")}, "not a domain name"},
		{&pb.SetDestinationRequest{Mx: new("a.test"), Hosts: []*pb.DestinationHost{{Address: "b.test:25"}}}, "not both"},
		{&pb.SetDestinationRequest{Mx: new("a.test"), On_5Xx: new("drop")}, "bounce or hold"},
		{&pb.SetDestinationRequest{Mx: new("a.test"), AuthUser: new("u")}, "--auth-password-file"},
		{&pb.SetDestinationRequest{Mx: new("a.test"), AuthPassword: new("p")}, "--auth-user"},
		{&pb.SetDestinationRequest{Mx: new("a.test"), AuthUser: new("u\x00"), AuthPassword: new("p")}, "zero byte"},
		{&pb.SetDestinationRequest{Mx: new("a.test"), AuthUser: new("u"), AuthPassword: new(strings.Repeat("p", 256))}, "255"},
	} {
		_, err := set(tt.req)
		wantCode(t, err, codes.InvalidArgument, tt.text)
	}
	d, err := set(&pb.SetDestinationRequest{Mx: new("Example.COM"), AuthUser: new("relay"), AuthPassword: new("s3cret")})
	if err != nil || d.Mx != "example.com" || len(d.Hosts) > 0 || d.AuthUser != "relay" || d.On_5Xx != "bounce" {
		t.Fatalf("%v, %v", d, err)
	}
	if strings.Contains(d.String(), "s3cret") {
		t.Errorf("the password is shown: %v", d)
	}
	d, err = set(&pb.SetDestinationRequest{Hosts: []*pb.DestinationHost{{Address: "mail.test:25"}}})
	if err != nil || d.Mx != "" || len(d.Hosts) != 1 || d.AuthUser != "relay" {
		t.Errorf("%v, %v", d, err)
	}
	if record, _ := view(t, w).Destination("office"); record.Config.AuthPassword != "s3cret" {
		t.Error("the password is gone")
	}
	if _, err = set(&pb.SetDestinationRequest{AuthUser: new("")}); err != nil {
		t.Fatal(err)
	}
	if record, _ := view(t, w).Destination("office"); record.Config.AuthPassword != "" {
		t.Error("the password outlives its user")
	}
}

func TestSuspendAndResume(t *testing.T) {
	w := admintest.Start(t)
	c := dial(t, w)
	w.Configure()
	id := w.Accept(0, "alice@x.test", "r@one.test")
	_, err := c.SuspendDestination(t.Context(), &pb.SuspendDestinationRequest{Name: "nowhere"})
	wantCode(t, err, codes.NotFound, "nowhere")
	_, err = c.SuspendDestination(t.Context(), &pb.SuspendDestinationRequest{Name: "one", Reason: strings.Repeat("x", 501)})
	wantCode(t, err, codes.InvalidArgument, "500")
	for range 2 { // repeating it is safe
		r, err := c.SuspendDestination(t.Context(), &pb.SuspendDestinationRequest{Name: "one", Reason: "moving"})
		if err != nil || r.Destination.SuspendedSince == nil || r.Destination.SuspendedBy == "" || r.Destination.SuspendedReason != "moving" {
			t.Fatalf("%v, %v", r, err)
		}
	}
	m, err := c.GetQueued(t.Context(), &pb.GetQueuedRequest{Id: id.String()})
	if err != nil {
		t.Fatal(err)
	}
	if causes := m.Message.Recipients[0].Causes; len(causes) != 1 || !strings.Contains(causes[0], "suspended") || !strings.Contains(causes[0], "moving") {
		t.Errorf("causes %q", causes)
	}
	for range 2 {
		r, err := c.ResumeDestination(t.Context(), &pb.ResumeDestinationRequest{Name: "one"})
		if err != nil || r.Destination.SuspendedSince != nil {
			t.Fatalf("%v, %v", r, err)
		}
	}
}

// Nobody says that a destination is suspended before every node has that, the second
// time neither.
func TestSuspensionThatIsNotEverywhere(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	w.FallBehind(errors.New("node b is behind"))
	for range 2 {
		_, err := c.SuspendDestination(t.Context(), &pb.SuspendDestinationRequest{Name: "one"})
		wantCode(t, err, codes.Unavailable, "node b is behind; repeating it is safe")
	}
	w.FallBehind(nil)
	if r, err := c.SuspendDestination(t.Context(), &pb.SuspendDestinationRequest{Name: "one"}); err != nil || r.Destination.SuspendedSince == nil {
		t.Errorf("%v, %v", r, err)
	}
}
