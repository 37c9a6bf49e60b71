package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"holdfast/cluster"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/test/admintest"
)

// client has all services of a world's node.
type client struct {
	pb.QueueServiceClient
	pb.LogServiceClient
	pb.DomainServiceClient
	pb.DestinationServiceClient
	pb.ClusterServiceClient
	conn *grpc.ClientConn
}

func dial(t *testing.T, w *admintest.World) client {
	t.Helper()
	conn, err := grpc.NewClient(w.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return client{
		pb.NewQueueServiceClient(conn), pb.NewLogServiceClient(conn), pb.NewDomainServiceClient(conn),
		pb.NewDestinationServiceClient(conn), pb.NewClusterServiceClient(conn), conn,
	}
}

func wantCode(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), text) {
		t.Errorf("error %v, want %v with %q", err, code, text)
	}
}

func TestDestinationKeepsWhatIsNotGiven(t *testing.T) {
	w := admintest.Start(t)
	c := dial(t, w)
	slots := uint32(5)
	created, err := c.SetDestination(t.Context(), &pb.SetDestinationRequest{
		Name: "office", Hosts: []*pb.DestinationHost{{Address: "mail.example.com:25", Priority: 10, Weight: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := created.Destination; !created.Created || d.Slots != 20 || d.Tls != "opportunistic" || d.ProbeMax.AsDuration() != 5*time.Minute {
		t.Errorf("created %v", created)
	}
	changed, err := c.SetDestination(t.Context(), &pb.SetDestinationRequest{Name: "office", Slots: &slots, ProbeMax: durationpb.New(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	d := changed.Destination
	if changed.Created || d.Slots != 5 || d.ProbeMax.AsDuration() != time.Minute || len(d.Hosts) != 1 || d.Hosts[0].Address != "mail.example.com:25" {
		t.Errorf("changed %v", changed)
	}
	if record, _ := view(t, w).Destination("office"); record.GetConfig().GetSlots() != 5 {
		t.Errorf("state has %v", record)
	}
}

func TestConfigurationRefusesWhatCannotBe(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	w.Accept(time.Hour, "s@x.test", "r@two.test")
	c := dial(t, w)
	none, zero, office := "nobody", uint32(0), "of fice"
	host := func(address string) []*pb.DestinationHost {
		return []*pb.DestinationHost{{Address: address}}
	}
	tests := []struct {
		name string
		call func(ctx context.Context) error
		code codes.Code
		text string
	}{
		{"new domain without destination", func(ctx context.Context) error {
			_, err := c.SetDomain(ctx, &pb.SetDomainRequest{Name: "new.test"})
			return err
		}, codes.InvalidArgument, "--destination"},
		{"domain to nowhere", func(ctx context.Context) error {
			_, err := c.SetDomain(ctx, &pb.SetDomainRequest{Name: "new.test", Destination: &none})
			return err
		}, codes.NotFound, "no destination nobody"},
		{"bad domain name", func(ctx context.Context) error {
			_, err := c.SetDomain(ctx, &pb.SetDomainRequest{Name: "a b"})
			return err
		}, codes.InvalidArgument, "not a domain name"},
		{"domain in Unicode", func(ctx context.Context) error {
			_, err := c.SetDomain(ctx, &pb.SetDomainRequest{Name: "bücher.test"})
			return err
		}, codes.InvalidArgument, "xn--"},
		{"bad destination name", func(ctx context.Context) error {
			_, err := c.SetDomain(ctx, &pb.SetDomainRequest{Name: "one.test", Destination: &office})
			return err
		}, codes.InvalidArgument, "of fice"},
		{"unknown policy", func(ctx context.Context) error {
			_, err := c.SetDomain(ctx, &pb.SetDomainRequest{Name: "one.test", Policy: &none})
			return err
		}, codes.NotFound, "no policy nobody"},
		{"unknown domain", func(ctx context.Context) error {
			_, err := c.GetDomain(ctx, &pb.GetDomainRequest{Name: "none.test"})
			return err
		}, codes.NotFound, "no domain none.test"},
		{"new destination without host", func(ctx context.Context) error {
			_, err := c.SetDestination(ctx, &pb.SetDestinationRequest{Name: "new"})
			return err
		}, codes.InvalidArgument, "--host"},
		{"host without port", func(ctx context.Context) error {
			_, err := c.SetDestination(ctx, &pb.SetDestinationRequest{Name: "new", Hosts: host("mail.test")})
			return err
		}, codes.InvalidArgument, "HOST:PORT"},
		{"host with a blank", func(ctx context.Context) error {
			_, err := c.SetDestination(ctx, &pb.SetDestinationRequest{Name: "new", Hosts: host("mail test:25")})
			return err
		}, codes.InvalidArgument, "neither an IP address nor a host name"},
		{"no slots", func(ctx context.Context) error {
			_, err := c.SetDestination(ctx, &pb.SetDestinationRequest{Name: "one", Slots: &zero})
			return err
		}, codes.InvalidArgument, "1 to 1000"},
		{"unknown TLS level", func(ctx context.Context) error {
			_, err := c.SetDestination(ctx, &pb.SetDestinationRequest{Name: "one", Tls: &none})
			return err
		}, codes.InvalidArgument, "opportunistic"},
		{"probe interval", func(ctx context.Context) error {
			_, err := c.SetDestination(ctx, &pb.SetDestinationRequest{Name: "one", ProbeMax: durationpb.New(time.Second)})
			return err
		}, codes.InvalidArgument, "probe-max 1s"},
		{"destination in use", func(ctx context.Context) error {
			_, err := c.RemoveDestination(ctx, &pb.RemoveDestinationRequest{Name: "one"})
			return err
		}, codes.FailedPrecondition, "in use by one.test: first `holdfast domain set one.test --destination OTHER`"},
		{"domain with queued mail", func(ctx context.Context) error {
			_, err := c.RemoveDomain(ctx, &pb.RemoveDomainRequest{Name: "two.test"})
			return err
		}, codes.FailedPrecondition, "has 1 queued recipient:"},
		{"unknown destination", func(ctx context.Context) error {
			_, err := c.RetryDestination(ctx, &pb.RetryDestinationRequest{Name: "nobody"})
			return err
		}, codes.NotFound, "no destination nobody"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := test.call(t.Context())
			wantCode(t, err, test.code, test.text)
			if len(status.Convert(err).Details()) != 2 || requestInfo(err) == "" {
				t.Errorf("details %v, want one, and the request's id", status.Convert(err).Details())
			}
		})
	}
	if n := len(w.Proposed()); n != 0 {
		t.Errorf("%d events were proposed", n)
	}
}

func TestInvalidFieldIsNamedInDetails(t *testing.T) {
	_, err := dial(t, admintest.Start(t)).ListQueue(t.Context(), &pb.ListQueueRequest{Filter: &pb.MessageFilter{From: "nonsense"}})
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok && bad.FieldViolations[0].Field == "filter.from" {
			return
		}
	}
	t.Errorf("error %v has no BadRequest that names filter.from", err)
}

func TestRemoveDomainThenDestination(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	if _, err := c.RemoveDomain(t.Context(), &pb.RemoveDomainRequest{Name: "ONE.test"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RemoveDestination(t.Context(), &pb.RemoveDestinationRequest{Name: "one"}); err != nil {
		t.Fatal(err)
	}
	list, err := c.ListDestinations(t.Context(), &pb.ListDestinationsRequest{})
	if err != nil || len(list.Destinations) != 1 || list.Destinations[0].Name != "two" {
		t.Errorf("left %v, %v", list, err)
	}
}

func TestConfigurationPages(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	var names []string
	for token := ""; ; {
		page, err := c.ListDomains(t.Context(), &pb.ListDomainsRequest{PageSize: 1, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.Domains {
			names = append(names, d.Name)
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	if !slices.Equal(names, []string{"one.test", "two.test"}) {
		t.Errorf("listed %v", names)
	}
	_, err := c.ListDomains(t.Context(), &pb.ListDomainsRequest{PageToken: "*"})
	wantCode(t, err, codes.InvalidArgument, "page_token")
	first, err := c.ListDomains(t.Context(), &pb.ListDomainsRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ListDestinations(t.Context(), &pb.ListDestinationsRequest{PageToken: first.NextPageToken})
	wantCode(t, err, codes.InvalidArgument, "belongs to another request")
	_, err = c.ListDomains(t.Context(), &pb.ListDomainsRequest{PageSize: 1001})
	wantCode(t, err, codes.InvalidArgument, "1 to 1000")
}

func TestWithoutQuorum(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	id := w.Accept(time.Hour, "s@x.test", "r@one.test")
	c := dial(t, w)
	w.LoseQuorum(context.DeadlineExceeded)

	_, err := c.RemoveDomain(t.Context(), &pb.RemoveDomainRequest{Name: "two.test"})
	wantCode(t, err, codes.Unavailable, "no quorum answered in time")
	w.LoseQuorum(errors.New("no leader"))
	_, err = c.OperateQueued(t.Context(), operate(retry, id.String()))
	wantCode(t, err, codes.Unavailable, "no quorum: no leader")
	// It never went into the log, whatever ended the wait.
	w.LoseQuorum(fmt.Errorf("%w: %w", cluster.ErrNoQuorum, context.DeadlineExceeded))
	_, err = c.OperateQueued(t.Context(), operate(retry, id.String()))
	wantCode(t, err, codes.Unavailable, "nothing was changed")
	for _, refused := range []error{cluster.ErrTooLarge, cluster.ErrInvalid} {
		w.LoseQuorum(refused)
		_, err = c.OperateQueued(t.Context(), operate(retry, id.String()))
		wantCode(t, err, codes.InvalidArgument, "nothing was changed")
	}

	list, err := c.ListQueue(t.Context(), &pb.ListQueueRequest{})
	if err != nil || !list.Stale || len(list.Messages) != 1 {
		t.Fatalf("list %v, %v", list, err)
	}
	if causes := list.Messages[0].Recipients[0].Causes; !strings.Contains(causes[0], "no quorum") {
		t.Errorf("causes %q", causes)
	}
	got, err := c.GetStatus(t.Context(), &pb.GetStatusRequest{})
	if err != nil || !got.Stale || got.Leader != "" {
		t.Errorf("status %v, %v", got, err)
	}
	if codes := warningCodes(got); !slices.Contains(codes, "no-quorum") || !slices.Contains(codes, "no-leader") {
		t.Errorf("warnings %v", codes)
	}
}

func TestChangeThatIsNotEverywhere(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	w.FallBehind(errors.New("node b is behind"))
	_, err := dial(t, w).RemoveDomain(t.Context(), &pb.RemoveDomainRequest{Name: "two.test"})
	wantCode(t, err, codes.Unavailable, "is in the log")
	wantCode(t, err, codes.Unavailable, "node b is behind")
}

func TestStatus(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	w.Accept(time.Hour, "s@x.test", "r@one.test")
	w.BringDown("one")
	got, err := dial(t, w).GetStatus(t.Context(), &pb.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Stale || got.Leader != "a" || len(got.Nodes) != 3 || got.Queue.Pending != 1 || got.AppliedIndex == 0 {
		t.Errorf("status %v", got)
	}
	if c := got.Nodes[2]; c.Alive || c.Voter || c.Version != "" {
		t.Errorf("node c is %v", c)
	}
	if len(got.DestinationsDown) != 1 || got.DestinationsDown[0].Error.Cause != "refused" {
		t.Errorf("down %v", got.DestinationsDown)
	}
	if codes := warningCodes(got); !slices.Equal(codes, []string{"node-down", "destination-down"}) {
		t.Errorf("warnings %v", codes)
	}
}

func warningCodes(s *pb.GetStatusResponse) []string {
	var all []string
	for _, w := range s.Warnings {
		all = append(all, w.Code)
	}
	return all
}

func TestVerify(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	c := dial(t, w)
	same, err := c.VerifyState(t.Context(), &pb.VerifyStateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(same.Mismatches) != 0 || len(same.Nodes) != 3 || len(same.Nodes[0].Digests) == 0 || same.Nodes[2].Error != "connection refused" {
		t.Errorf("verification %v", same)
	}
	family := same.Nodes[0].Digests[0].Family
	w.Tamper(family)
	// Of two that answer neither is the majority.
	different, err := c.VerifyState(t.Context(), &pb.VerifyStateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, m := range different.Mismatches {
		named = append(named, m.Node+" "+m.Family)
	}
	if !slices.Equal(named, []string{"a " + family, "b " + family}) {
		t.Errorf("mismatches %v", named)
	}
}

func TestBody(t *testing.T) {
	w := admintest.Start(t)
	w.Configure()
	id := w.Accept(time.Hour, "s@x.test", "r@one.test")
	c := dial(t, w)
	body, err := readBody(t, c, id.String())
	if err != nil || body != admintest.Body() {
		t.Errorf("body %q, %v", body, err)
	}
	w.Claim(1, id, "one")
	w.Deliver(1, id, "one")
	_, err = readBody(t, c, id.String())
	wantCode(t, err, codes.NotFound, "its body is gone")
	_, err = readBody(t, c, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
	wantCode(t, err, codes.NotFound, "no message 01ARZ3NDEKTSV4RRFFQ69G5FAV")
	_, err = readBody(t, c, "x")
	wantCode(t, err, codes.InvalidArgument, "not a ULID")
}

func readBody(t *testing.T, c client, id string) (string, error) {
	t.Helper()
	stream, err := c.ReadBody(t.Context(), &pb.ReadBodyRequest{Id: id})
	if err != nil {
		return "", err
	}
	var body strings.Builder
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return body.String(), nil
		}
		if err != nil {
			return "", err
		}
		body.Write(piece.Data)
	}
}

func TestHealthAndReflection(t *testing.T) {
	c := dial(t, admintest.Start(t))
	health, err := healthpb.NewHealthClient(c.conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || health.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health %v, %v", health, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := reflectionpb.NewServerReflectionClient(c.conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
	}); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if list := fmt.Sprint(answer.GetListServicesResponse()); !strings.Contains(list, "holdfast.v1.QueueService") {
		t.Errorf("services %s", list)
	}
}

func timestampAt(ago time.Duration) *timestamppb.Timestamp {
	return timestamppb.New(admintest.Now.Add(-ago))
}
