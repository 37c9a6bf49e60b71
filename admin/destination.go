package admin

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "holdfast/proto/holdfast/v1"
)

type destinationService struct {
	pb.UnimplementedDestinationServiceServer
	*node
}

func (s *destinationService) SetDestination(ctx context.Context, req *pb.SetDestinationRequest) (*pb.SetDestinationResponse, error) {
	if err := checkDestinationName("name", req.Name); err != nil {
		return nil, err
	}
	var existed bool
	err := s.merge(ctx, "destination "+req.Name, func() (*pb.Event, error) {
		var config *pb.DestinationConfig
		var err error
		config, existed, err = s.changed(ctx, req)
		return &pb.Event{Kind: &pb.Event_DestinationSet{DestinationSet: &pb.DestinationSet{Destination: config}}}, err
	})
	if req.Undo {
		err = lookFirst(err, fmt.Sprintf("`holdfast destination show %s`: a second --undo takes the first one back", req.Name))
	}
	if err != nil {
		return nil, err
	}
	destination, err := s.show(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	return &pb.SetDestinationResponse{Destination: destination, Created: !existed}, nil
}

// changed is the destination as it will be: what isn't given stays as it is.
func (s *destinationService) changed(ctx context.Context, req *pb.SetDestinationRequest) (*pb.DestinationConfig, bool, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, false, err
	}
	defer w.release()
	config := newDestination(req.Name)
	present, existed := w.Destination(req.Name)
	if existed {
		config = proto.CloneOf(present.Config)
	}
	if req.Undo {
		if err := undone(config, present.GetEarlier(), req); err != nil {
			return nil, false, err
		}
	}
	return config, existed, changeDestination(config, req)
}

func (s *destinationService) GetDestination(ctx context.Context, req *pb.GetDestinationRequest) (*pb.GetDestinationResponse, error) {
	destination, err := s.show(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	return &pb.GetDestinationResponse{Destination: destination, Stale: s.stale()}, nil
}

func (s *destinationService) ListDestinations(ctx context.Context, req *pb.ListDestinationsRequest) (*pb.ListDestinationsResponse, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	name := func(d *pb.DestinationRecord) string { return d.Config.GetName() }
	records, next, err := namedPage(w.listingOfNames("destinations"), w.Destinations(), name, req.PageSize, req.PageToken)
	if err != nil {
		return nil, err
	}
	out := &pb.ListDestinationsResponse{NextPageToken: next, Stale: !w.quorum}
	for _, record := range records {
		out.Destinations = append(out.Destinations, w.destination(record))
	}
	return out, nil
}

func (s *destinationService) RemoveDestination(ctx context.Context, req *pb.RemoveDestinationRequest) (*pb.RemoveDestinationResponse, error) {
	if err := s.removable(ctx, req.Name); err != nil {
		return nil, err
	}
	event := &pb.Event{Kind: &pb.Event_DestinationRemoved{DestinationRemoved: &pb.DestinationRemoved{Name: req.Name}}}
	if err := s.configure(ctx, event, "destination "+req.Name); err != nil {
		return nil, err
	}
	return &pb.RemoveDestinationResponse{}, nil
}

// removable names the way out of what is in use or has queued mail. Applying
// the event checks again, at its own index.
func (s *destinationService) removable(ctx context.Context, name string) error {
	w, err := s.window(ctx)
	if err != nil {
		return err
	}
	defer w.release()
	if _, ok := w.Destination(name); !ok {
		return noDestination(name)
	}
	var users []string
	for _, domain := range w.Domains() {
		if domain.Destination == name {
			users = append(users, domain.Name)
		}
	}
	return w.destinationInUse(name, users)
}

// destinationInUse says what keeps a destination from being removed, given the
// domains that name it; nil if nothing does.
func (w window) destinationInUse(name string, users []string) error {
	if len(users) > 0 {
		return precondition("IN_USE", name, "destination %s is in use by %s: first `holdfast domain set %s --destination OTHER` or `holdfast domain remove %s`",
			name, some(users), users[0], users[0])
	}
	if n := queued(w.DestinationCounter(name)); n > 0 {
		return precondition("IN_USE", name,
			"destination %s has %s: wait until all are delivered or returned; `holdfast queue list --destination %s` shows them", name, numbered(int(n), "queued recipient"), name)
	}
	return nil
}

// some names a few of a long list.
func some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func (s *destinationService) RetryDestination(ctx context.Context, req *pb.RetryDestinationRequest) (*pb.RetryDestinationResponse, error) {
	if _, err := s.show(ctx, req.Name); err != nil {
		return nil, err
	}
	event := &pb.Event{Kind: &pb.Event_RetryRequested{RetryRequested: &pb.RetryRequested{Destination: req.Name}}}
	index, err := s.propose(ctx, event, "destination "+req.Name)
	if err != nil {
		return nil, err
	}
	if err := s.applied(ctx, index); err != nil {
		return nil, err
	}
	destination, err := s.show(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	return &pb.RetryDestinationResponse{Destination: destination}, nil
}

func (s *destinationService) show(ctx context.Context, name string) (*pb.Destination, error) {
	w, err := s.window(ctx)
	if err != nil {
		return nil, err
	}
	defer w.release()
	record, ok := w.named(name)
	if !ok {
		return nil, noDestination(name)
	}
	return w.destination(record), nil
}

func (w window) destination(record *pb.DestinationRecord) *pb.Destination {
	config, health := record.Config, record.Health
	out := &pb.Destination{
		Name:     config.GetName(),
		Slots:    config.GetSlots(),
		Tls:      config.GetTls(),
		ProbeMax: durationpb.New(time.Duration(config.GetProbeMax())),
		State:    pb.DestinationHealth_STATE_UP,
	}
	out.Mx, out.On_5Xx = config.GetMx(), onRejected(config)
	if !w.caller.limited() {
		// The count has others' mail in it.
		out.Count, out.AuthUser = queueCount(w.DestinationCounter(config.GetName())), config.GetAuthUser()
	}
	if suspended := record.Suspended; suspended != nil {
		out.SuspendedSince, out.SuspendedBy, out.SuspendedReason = timestamp(suspended.Since), suspended.By, suspended.Reason
	}
	out.Hosts = shownHosts(config.GetHosts())
	if earlier := record.Earlier; earlier != nil {
		out.EarlierHosts, out.EarlierMx, out.EarlierUntil = shownHosts(earlier.Hosts), earlier.Mx, timestamp(earlier.Until)
	}
	if owner, ok := w.Owner(config.GetName()); ok {
		out.Owner = owner
	}
	if troubled(health) {
		out.State = health.State
		out.Since = timestamp(health.Since)
		out.Error = deliveryError(health.Failure)
		out.NextProbe = nextProbe(record)
	}
	return out
}

// nextProbe is none while the destination is suspended: then nothing is tried.
func nextProbe(record *pb.DestinationRecord) *timestamppb.Timestamp {
	if record.Suspended != nil {
		return nil
	}
	return timestamp(record.Health.GetNextProbe())
}

func shownHosts(hosts []*pb.DestinationConfig_Host) []*pb.DestinationHost {
	var out []*pb.DestinationHost
	for _, host := range hosts {
		out = append(out, &pb.DestinationHost{Address: host.Address, Priority: host.Priority, Weight: host.Weight})
	}
	return out
}

// troubled is suspect or down.
func troubled(h *pb.DestinationHealth) bool {
	return h.GetState() == pb.DestinationHealth_STATE_SUSPECT || h.GetState() == pb.DestinationHealth_STATE_DOWN
}

func noDestination(name string) error {
	return notFound("destination", name, fmt.Sprintf("no destination %s; `holdfast destination list` shows all", name))
}
