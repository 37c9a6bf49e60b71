package admin_test

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"holdfast/loglimit"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
	"holdfast/test/admintest"
)

// window is a world with mail of one.test and of two.test, seen by an operator who
// is limited to one.test.
type window struct {
	client
	*admintest.World
	own, shared, others relay.MessageID
}

func openWindow(t *testing.T) window {
	w := admintest.Start(t)
	w.Configure()
	v := window{World: w}
	v.own = w.Accept(3*time.Hour, "a@x.test", "r@one.test")
	v.shared = w.Accept(2*time.Hour, "a@x.test", "r@one.test", "secret@two.test")
	v.others = w.Accept(time.Hour, "a@x.test", "secret@two.test")
	w.Claim(1, v.others, "two")
	w.Defer(1, v.others, "two", time.Hour)
	w.BringDown("two")
	v.client = dialWith(t, w, createToken(t, w, &pb.CreateTokenRequest{Name: "customer", Role: pb.Role_ROLE_OPERATOR, Domains: []string{"ONE.test"}}))
	return v
}

// How busy a destination is says something of others' mail.
func TestSlotsOfLimitedCallers(t *testing.T) {
	v := openWindow(t)
	own, err := v.GetQueued(t.Context(), &pb.GetQueuedRequest{Id: v.own.String()})
	if err != nil {
		t.Fatal(err)
	}
	log, err := v.GetLog(t.Context(), &pb.GetLogRequest{Id: v.own.String()})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*pb.Message{own.Message, log.Message} {
		if causes := strings.Join(m.Recipients[0].Causes, "\n"); !strings.Contains(causes, "waiting for a slot of destination one") || strings.Contains(causes, "in use") {
			t.Errorf("causes %q", causes)
		}
	}
}

func createToken(t *testing.T, w *admintest.World, req *pb.CreateTokenRequest) string {
	t.Helper()
	r, err := pb.NewAccessServiceClient(dial(t, w).conn).CreateToken(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return r.Secret
}

// dialWith shows a token with each call.
func dialWith(t *testing.T, w *admintest.World, token string) client {
	t.Helper()
	show := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	conn, err := grpc.NewClient(w.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(show(ctx), method, req, reply, conn, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return stream(show(ctx), desc, conn, method, opts...)
		}))
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

// wantOwn wants nothing of two.test in an answer, and of one.test what is given.
func (v window) wantOwn(t *testing.T, answer proto.Message, err error, want ...string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	text := prototext.Format(answer)
	for _, foreign := range []string{"two", "secret", v.others.String()} {
		if strings.Contains(text, foreign) {
			t.Errorf("%T shows %q:\n%s", answer, foreign, text)
		}
	}
	for _, own := range want {
		if !strings.Contains(text, own) {
			t.Errorf("%T lacks %q:\n%s", answer, own, text)
		}
	}
}

func TestLimitedCallersSeeTheirDomainsAlone(t *testing.T) {
	v := openWindow(t)
	ctx, own, shared := t.Context(), v.own.String(), v.shared.String()
	foreign := &pb.MessageFilter{Domain: "two.test"}

	queue, err := v.ListQueue(ctx, &pb.ListQueueRequest{})
	v.wantOwn(t, queue, err, own, shared)
	queue, err = v.ListQueue(ctx, &pb.ListQueueRequest{Filter: foreign})
	v.wantOwn(t, queue, err)
	queue, err = v.ListQueue(ctx, &pb.ListQueueRequest{At: &pb.PastPoint{Index: v.State.AppliedIndex()}})
	v.wantOwn(t, queue, err, own, shared)
	if len(queue.Messages) != 2 {
		t.Errorf("the past has %d messages", len(queue.Messages))
	}
	message, err := v.GetQueued(ctx, &pb.GetQueuedRequest{Id: shared})
	v.wantOwn(t, message, err, "r@one.test")
	_, err = v.GetQueued(ctx, &pb.GetQueuedRequest{Id: v.others.String()})
	wantCode(t, err, codes.NotFound, "no message "+v.others.String())
	_, err = v.GetLog(ctx, &pb.GetLogRequest{Id: v.others.String()})
	wantCode(t, err, codes.NotFound, "no message")

	found, err := v.SearchLog(ctx, &pb.SearchLogRequest{})
	v.wantOwn(t, found, err, own, shared)
	found, err = v.SearchLog(ctx, &pb.SearchLogRequest{Filter: &pb.MessageFilter{To: "secret@two.test"}})
	v.wantOwn(t, found, err)
	found, err = v.SearchLog(ctx, &pb.SearchLogRequest{Filter: &pb.MessageFilter{From: "a@x.test"}, OldestFirst: true, PageSize: 1})
	v.wantOwn(t, found, err, own)
	history, err := v.GetLog(ctx, &pb.GetLogRequest{Id: shared})
	v.wantOwn(t, history, err, "KIND_ACCEPTED")

	for _, req := range []*pb.CountQueueRequest{
		{}, {By: pb.CountQueueRequest_BY_DOMAIN}, {Filter: &pb.MessageFilter{Destination: "one"}}, {Filter: &pb.MessageFilter{From: "a@x.test"}},
		{At: &pb.PastPoint{Index: v.State.AppliedIndex()}},
	} {
		count, err := v.CountQueue(ctx, req)
		v.wantOwn(t, count, err, "pending:")
		if len(count.GetRows()) != 1 || count.Rows[0].Count.GetPending() != 2 {
			t.Errorf("%v counts %v", req, count)
		}
	}
	count, err := v.CountQueue(ctx, &pb.CountQueueRequest{Filter: foreign})
	v.wantOwn(t, count, err)
	if count.Rows[0].Count.GetPending() != 0 {
		t.Errorf("others' mail is counted: %v", count)
	}
	_, err = v.CountQueue(ctx, &pb.CountQueueRequest{By: pb.CountQueueRequest_BY_DESTINATION})
	wantCode(t, err, codes.PermissionDenied, "count by domain")

	domains, err := v.ListDomains(ctx, &pb.ListDomainsRequest{})
	v.wantOwn(t, domains, err, "one.test")
	_, err = v.GetDomain(ctx, &pb.GetDomainRequest{Name: "two.test"})
	wantCode(t, err, codes.NotFound, "no domain two.test")
	destinations, err := v.ListDestinations(ctx, &pb.ListDestinationsRequest{})
	v.wantOwn(t, destinations, err, "mail.one.test:25")
	if destinations.Destinations[0].Count != nil {
		t.Error("a destination's count has others' mail in it")
	}
	_, err = v.GetDestination(ctx, &pb.GetDestinationRequest{Name: "two"})
	wantCode(t, err, codes.NotFound, "no destination two")
	status, err := v.GetStatus(ctx, &pb.GetStatusRequest{})
	v.wantOwn(t, status, err, "pending:")
	if len(status.Nodes) > 0 || status.Leader != "" || status.AppliedIndex != 0 {
		t.Errorf("the status shows the cluster: %v", status)
	}
}

func TestLimitedCallersActOnTheirDomainsAlone(t *testing.T) {
	v := openWindow(t)
	ctx := t.Context()
	hold := &pb.QueueOperation{Kind: pb.Operation_KIND_HOLD}
	_, err := v.OperateQueued(ctx, &pb.OperateQueuedRequest{Operation: hold, Ids: []string{v.others.String()}})
	wantCode(t, err, codes.NotFound, "no message")
	done, err := v.OperateQueued(ctx, &pb.OperateQueuedRequest{Operation: hold, Ids: []string{v.shared.String()}})
	if err != nil || done.Recipients != 1 {
		t.Errorf("held %v: %v", done, err)
	}
	for _, op := range []*pb.QueueOperation{
		{Kind: pb.Operation_KIND_REDIRECT, Destination: "two"},
		{Kind: pb.Operation_KIND_REDIRECT, Address: "x@two.test"},
	} {
		unknown := proto.CloneOf(op)
		unknown.Destination, unknown.Address = strings.ReplaceAll(op.Destination, "two", "nil"), strings.ReplaceAll(op.Address, "two", "nil")
		_, err := v.OperateQueued(ctx, &pb.OperateQueuedRequest{Operation: op, Ids: []string{v.own.String()}})
		_, other := v.OperateQueued(ctx, &pb.OperateQueuedRequest{Operation: unknown, Ids: []string{v.own.String()}})
		if err == nil || strings.ReplaceAll(err.Error(), "two", "nil") != other.Error() {
			t.Errorf("what others have is answered %v, what nobody has %v", err, other)
		}
	}
	preview, err := v.PreviewBulk(ctx, &pb.PreviewBulkRequest{Operation: &pb.QueueOperation{Kind: pb.Operation_KIND_DELETE}})
	if err != nil {
		t.Fatal(err)
	}
	var last *pb.PreviewBulkResponse
	for {
		r, err := preview.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		v.wantOwn(t, r, err)
		last = r
	}
	if last.Recipients != 2 {
		t.Errorf("a preview counts %d recipients", last.Recipients)
	}
	started, err := v.StartBulk(ctx, &pb.StartBulkRequest{Operation: &pb.QueueOperation{Kind: pb.Operation_KIND_DELETE}, All: true})
	if err != nil {
		t.Fatal(err)
	}
	v.wantFinished(t, v.client, started.BulkId, 2)
	if r := v.stateOf(t, v.shared, 1); r != pb.RecipientState_RECIPIENT_STATE_PENDING {
		t.Errorf("another's recipient is %v", r)
	}
	if r := v.stateOf(t, v.others, 0); r != pb.RecipientState_RECIPIENT_STATE_PENDING {
		t.Errorf("another's message is %v", r)
	}
	// An administrator's operation isn't the customer's to watch.
	started, err = dial(t, v.World).StartBulk(ctx, &pb.StartBulkRequest{Operation: hold, All: true})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := v.WatchBulk(ctx, &pb.WatchBulkRequest{BulkId: started.BulkId})
	if err == nil {
		_, err = watch.Recv()
	}
	wantCode(t, err, codes.NotFound, "no bulk operation")
	_, err = v.StopBulk(ctx, &pb.StopBulkRequest{BulkId: started.BulkId})
	wantCode(t, err, codes.NotFound, "no bulk operation")
	listed, err := v.ListBulks(ctx, &pb.ListBulksRequest{})
	if err != nil || len(listed.Bulks) == 0 {
		t.Errorf("its own operations: %v %v", listed, err)
	}
	for _, bulk := range listed.GetBulks() {
		if bulk.Id == started.BulkId || bulk.By != "token customer" {
			t.Errorf("it sees %v", bulk)
		}
	}
	if all, err := dial(t, v.World).ListBulks(ctx, &pb.ListBulksRequest{}); err != nil || len(all.Bulks) != len(listed.Bulks)+1 {
		t.Errorf("all of them: %v %v", all, err)
	}
}

func (v window) wantFinished(t *testing.T, c client, id string, recipients uint64) {
	t.Helper()
	watch, err := c.WatchBulk(t.Context(), &pb.WatchBulkRequest{BulkId: id})
	if err != nil {
		t.Fatal(err)
	}
	for {
		r, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if r.Bulk.FinishedAt != nil {
			if r.Bulk.Recipients != recipients || r.Bulk.By != "token customer" {
				t.Errorf("it came to %v", r.Bulk)
			}
			return
		}
	}
}

func (v window) stateOf(t *testing.T, id relay.MessageID, number uint32) pb.RecipientState {
	t.Helper()
	r, err := view(t, v.World).Recipient(id, number)
	if err != nil {
		t.Fatal(err)
	}
	return r.State
}

// A tail shows a limited caller its own rows, and ends when its token does.
func TestLimitedTailEndsWithItsToken(t *testing.T) {
	v := openWindow(t)
	tail, err := v.TailLog(t.Context(), &pb.TailLogRequest{Index: 1})
	if err != nil {
		t.Fatal(err)
	}
	first, err := tail.Recv()
	v.wantOwn(t, first, err, v.own.String(), v.shared.String())
	if len(first.Rows) != 2 {
		t.Errorf("%d rows", len(first.Rows))
	}
	if _, err := pb.NewAccessServiceClient(dial(t, v.World).conn).RevokeToken(t.Context(), &pb.RevokeTokenRequest{Token: "customer"}); err != nil {
		t.Fatal(err)
	}
	v.Accept(0, "b@x.test", "r@one.test")
	_, err = tail.Recv()
	wantCode(t, err, codes.Unauthenticated, "revoked")
	if !strings.Contains(v.Log(), `by="token customer"`) && !strings.Contains(v.Log(), "TokenRevoked") {
		t.Errorf("the log has nothing of it:\n%s", v.Log())
	}
}

// One caller's page token is no good for another.
func TestPageTokensBelongToTheirCaller(t *testing.T) {
	v := openWindow(t)
	all, err := dial(t, v.World).ListQueue(t.Context(), &pb.ListQueueRequest{PageSize: 1})
	if err != nil || all.NextPageToken == "" {
		t.Fatal(err)
	}
	_, err = v.ListQueue(t.Context(), &pb.ListQueueRequest{PageSize: 1, PageToken: all.NextPageToken})
	wantCode(t, err, codes.InvalidArgument, "belongs to another request")
	own, err := v.ListQueue(t.Context(), &pb.ListQueueRequest{PageSize: 1})
	if err != nil || own.NextPageToken == "" {
		t.Fatal(err)
	}
	rest, err := v.ListQueue(t.Context(), &pb.ListQueueRequest{PageSize: 5, PageToken: own.NextPageToken})
	v.wantOwn(t, rest, err, v.shared.String())
}

// Whoever calls again and again in vain fills no disk: what isn't logged one by
// one is counted there.
func TestRefusalsInTheLogAreBounded(t *testing.T) {
	w := admintest.Start(t)
	client := dialWith(t, w, "hft_nonsense")
	refuse := func() {
		_, err := client.GetStatus(t.Context(), &pb.GetStatusRequest{})
		wantCode(t, err, codes.Unauthenticated, "unknown, or was revoked")
	}
	for range loglimit.PerSecond + 70 {
		refuse()
	}
	if lines := strings.Count(w.Log(), `msg="call refused"`); lines != loglimit.PerSecond {
		t.Errorf("%d lines, want %d", lines, loglimit.PerSecond)
	}
	w.Pass(time.Second)
	refuse()
	log, counted := w.Log(), 0
	// Two counts where a second of the machine's ended among the calls.
	for _, count := range regexp.MustCompile(`msg="refusals not logged one by one".* refusals=(\d+)`).FindAllStringSubmatch(log, -1) {
		n, err := strconv.Atoi(count[1])
		if err != nil {
			t.Error(err)
		}
		counted += n
	}
	if lines := strings.Count(log, `msg="call refused"`); lines != loglimit.PerSecond+1 || counted != 70 {
		t.Errorf("a second later there are %d lines and %d more are counted:\n%s", lines, counted, log[len(log)-min(len(log), 500):])
	}
}

// Neither the secret nor its hash is in the log, in a list, or in what a refusal
// says; a refusal is logged once, with who and what.
func TestSecretsAndRefusalsInTheLog(t *testing.T) {
	w := admintest.Start(t)
	secret := createToken(t, w, &pb.CreateTokenRequest{Name: "watcher", Role: pb.Role_ROLE_VIEWER, Ttl: durationpb.New(time.Hour)})
	_, err := dialWith(t, w, secret).DrainNode(t.Context(), &pb.DrainNodeRequest{})
	wantCode(t, err, codes.PermissionDenied, "DrainNode needs the role operator; token watcher has viewer")
	_, err = dialWith(t, w, secret+"x").GetStatus(t.Context(), &pb.GetStatusRequest{})
	wantCode(t, err, codes.Unauthenticated, "unknown, or was revoked")
	log := w.Log()
	if strings.Contains(log, "hft_") || strings.Contains(err.Error(), "hft_") {
		t.Errorf("a secret is in the log:\n%s", log)
	}
	if strings.Count(log, `msg="call refused"`) != 2 || !strings.Contains(log, `by="token watcher"`) || !strings.Contains(log, "ClusterService/DrainNode") {
		t.Errorf("the log:\n%s", log)
	}
	list, err := pb.NewAccessServiceClient(dial(t, w).conn).ListTokens(t.Context(), &pb.ListTokensRequest{})
	if err != nil || len(list.Tokens) != 1 || strings.Contains(list.String(), secret[15:]) || list.Tokens[0].ExpiresAt == nil {
		t.Errorf("list %v: %v", list, err)
	}
	for _, event := range w.Proposed() {
		if strings.Contains(event.String(), secret) {
			t.Errorf("the event has the secret: %v", event)
		}
	}
}

// What happened to a recipient before it was redirected to the caller's domain is
// another's: neither its message, nor a search, nor the log tells of it.
func TestRedirectedRecipientsBringNothingAlong(t *testing.T) {
	v := openWindow(t)
	ctx := t.Context()
	fail := func(attempt uint64, id relay.MessageID) {
		v.FoldAs(v.Owner("two"), 0, &pb.Event{Kind: &pb.Event_AttemptFailed{AttemptFailed: &pb.AttemptFailed{
			Claim: &pb.ClaimRef{Incarnation: v.Owner("two"), Attempt: attempt}, MessageId: id[:],
			Recipients: []*pb.AttemptFailed_Recipient{{Failure: &pb.Failure{
				Cause: "deferred", Phase: "rcpt", Host: "mail.two.test:25", Code: 450, Text: "<secret@two.test> is over quota", At: admintest.Now.UnixNano(),
			}, NextAttempt: admintest.Now.Add(time.Hour).UnixNano()}},
			Attempt: &pb.Attempt{Node: "a", Host: "mail.two.test:25", Started: admintest.Now.UnixNano()},
		}}}, nil)
	}
	redirect := func(id relay.MessageID) {
		t.Helper()
		_, err := dial(t, v.World).OperateQueued(ctx, &pb.OperateQueuedRequest{
			Operation: &pb.QueueOperation{Kind: pb.Operation_KIND_REDIRECT, Address: "here@one.test"}, Ids: []string{id.String()},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	v.FoldAs(v.Owner("two"), 0, &pb.Event{Kind: &pb.Event_DestinationRecovered{DestinationRecovered: &pb.DestinationRecovered{Name: "two", Probes: 2, Node: "a"}}}, nil)
	// One is redirected after its attempt, the other while it is under way.
	after, meanwhile := v.Accept(time.Hour, "a@x.test", "secret@two.test"), v.Accept(time.Hour, "a@x.test", "secret@two.test")
	v.Claim(11, after, "two")
	fail(11, after)
	redirect(after)
	v.Claim(12, meanwhile, "two")
	redirect(meanwhile)
	fail(12, meanwhile)
	held := v.Accept(time.Hour, "a@x.test", "secret@two.test")
	if _, err := dial(t, v.World).OperateQueued(ctx, &pb.OperateQueuedRequest{
		Operation: &pb.QueueOperation{Kind: pb.Operation_KIND_HOLD, Reason: "the owner of secret@two.test asked"}, Ids: []string{held.String()},
	}); err != nil {
		t.Fatal(err)
	}
	redirect(held)
	// One whose node died is told of only now.
	v.FoldAs(v.Owner("two"), 0, &pb.Event{Kind: &pb.Event_Delivered{Delivered: &pb.Delivered{
		Claim: &pb.ClaimRef{Incarnation: v.Owner("two"), Attempt: 99}, MessageId: held[:],
		Recipients: []*pb.Delivered_Recipient{{Code: 250, Text: "taken for secret@two.test", Earlier: proto.Uint32(0)}},
	}}}, nil)

	for name, id := range map[string]relay.MessageID{"after": after, "meanwhile": meanwhile, "held": held} {
		message, err := v.GetQueued(ctx, &pb.GetQueuedRequest{Id: id.String()})
		v.wantOwn(t, message, err, "here@one.test")
		if message.Message.Recipients[0].LastError != nil {
			t.Errorf("%s: %v", name, message)
		}
		history, err := v.GetLog(ctx, &pb.GetLogRequest{Id: id.String()})
		v.wantOwn(t, history, err, "KIND_REDIRECTED")
	}
	for reply, want := range map[string]int{"over quota": 0, "taken for": 0, "": 5} {
		found, err := v.SearchLog(ctx, &pb.SearchLogRequest{Reply: reply, Filter: &pb.MessageFilter{
			Since: timestamppb.New(admintest.Now.Add(-24 * time.Hour)),
		}})
		v.wantOwn(t, found, err)
		if len(found.Messages) != want {
			t.Errorf("a search for %q finds %d messages, want %d", reply, len(found.Messages), want)
		}
	}
	all, err := dial(t, v.World).SearchLog(ctx, &pb.SearchLogRequest{Reply: "over quota", Filter: &pb.MessageFilter{
		Since: timestamppb.New(admintest.Now.Add(-24 * time.Hour)),
	}})
	if err != nil || len(all.Messages) != 2 {
		t.Errorf("who isn't limited finds %v: %v", all, err)
	}
	whole, err := dial(t, v.World).GetLog(ctx, &pb.GetLogRequest{Id: held.String()})
	if last := whole.GetHistory()[len(whole.GetHistory())-1]; err != nil || last.Kind != pb.HistoryRecord_KIND_DELIVERED_ELSEWHERE || !strings.Contains(last.Text, "secret@two.test took it") {
		t.Errorf("who isn't limited is told %v: %v", whole, err)
	}
	tail, err := v.TailLog(ctx, &pb.TailLogRequest{Index: 1})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := tail.Recv()
	v.wantOwn(t, rows, err, "here@one.test", after.String(), meanwhile.String(), held.String())

	// What happens to it from now on is the caller's.
	v.Claim(13, after, "one")
	v.Defer(13, after, "one", time.Hour)
	message, err := v.GetQueued(ctx, &pb.GetQueuedRequest{Id: after.String()})
	v.wantOwn(t, message, err, "greylisted, come back later")
}

// A destination that refuses all its mail alike tells the address of the message
// that it refused last, which may be another's.
func TestOutagesNameNobodyElse(t *testing.T) {
	v := openWindow(t)
	ctx := t.Context()
	shared := "one"
	if _, err := pb.NewDomainServiceClient(dial(t, v.World).conn).SetDomain(ctx, &pb.SetDomainRequest{Name: "two.test", Destination: &shared}); err != nil {
		t.Fatal(err)
	}
	for probes := range uint64(2) {
		v.FoldAs(v.Owner("one"), 0, &pb.Event{Kind: &pb.Event_DestinationFailed{DestinationFailed: &pb.DestinationFailed{
			Name: "one", Probes: probes, NextProbe: admintest.Now.Add(time.Minute).UnixNano(),
			Failure: &pb.Failure{Cause: "deferred", Phase: "rcpt", Host: "mail.one.test:25", Code: 450, Enhanced: "4.3.2", Text: "<secret@two.test> come back later", At: admintest.Now.UnixNano()},
		}}}, nil)
	}
	status, err := v.GetStatus(ctx, &pb.GetStatusRequest{})
	v.wantOwn(t, status, err, "destination one is down", "450 4.3.2")
	destination, err := v.GetDestination(ctx, &pb.GetDestinationRequest{Name: "one"})
	v.wantOwn(t, destination, err, "4.3.2")
	destinations, err := v.ListDestinations(ctx, &pb.ListDestinationsRequest{})
	v.wantOwn(t, destinations, err, "4.3.2")
	message, err := v.GetQueued(ctx, &pb.GetQueuedRequest{Id: v.own.String()})
	v.wantOwn(t, message, err, "destination one is down", "4.3.2")
	history, err := v.GetLog(ctx, &pb.GetLogRequest{Id: v.own.String()})
	v.wantOwn(t, history, err, "4.3.2")
	whole, err := dial(t, v.World).GetDestination(ctx, &pb.GetDestinationRequest{Name: "one"})
	if err != nil || !strings.Contains(whole.Destination.Error.GetText(), "secret@two.test") {
		t.Errorf("who isn't limited is told %v: %v", whole, err)
	}
}
