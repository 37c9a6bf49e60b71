package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"holdfast/admin/configfile"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

const (
	exportPiece = 64 << 10
	// maxProblems is how many of a file's errors are listed.
	maxProblems = 20
)

func protoName(name string) protoreflect.Name { return protoreflect.Name(name) }

// ExportConfiguration is written from one view, so that it is of one index.
func (s *settingsService) ExportConfiguration(req *pb.ExportConfigurationRequest, stream pb.SettingsService_ExportConfigurationServer) error {
	w, err := s.window(stream.Context())
	if err != nil {
		return err
	}
	defer w.release()
	c := configfile.Configuration{Settings: w.Settings(), Domains: w.Domains()}
	if c.Recipients, err = w.allListed(); err != nil {
		return err
	}
	if !req.WithoutRevision {
		c.Revision = configfile.Revision{Index: w.Configured(), Cluster: w.ClusterID()}
	}
	for _, p := range w.Policies() {
		if _, shipped := relay.ShippedPolicy(p.Name); !shipped {
			c.Policies = append(c.Policies, p)
		}
	}
	for _, d := range w.Destinations() {
		c.Destinations = append(c.Destinations, d.Config)
	}
	for piece := range slices.Chunk(configfile.Write(c), exportPiece) {
		if err := stream.Send(&pb.ExportConfigurationResponse{Data: piece, Stale: !w.quorum}); err != nil {
			return err
		}
	}
	return nil
}

func (s *settingsService) ApplyConfiguration(stream pb.SettingsService_ApplyConfigurationServer) error {
	options, text, err := receiveFile(stream)
	if err != nil {
		return err
	}
	ctx := stream.Context()
	if !options.DryRun && s.upToNow(ctx) != nil {
		// What this node has may be as the file wants it though the cluster's isn't, and
		// then nothing is proposed that would tell.
		return behind("")
	}
	file := configfile.Read(text)
	var p *plan
	var summary *pb.ConfigurationSummary
	for {
		if p, summary, err = s.planned(ctx, file, options); err != nil {
			return err
		}
		if options.DryRun || len(p.differences) == 0 {
			break
		}
		if options.Fingerprint != "" && options.Fingerprint != summary.Fingerprint {
			return status.Error(codes.Aborted, "the configuration was changed while you looked at the difference, nothing was changed: see what the file would do now")
		}
		index, err := s.carryOut(ctx, p.change, summary.Revision)
		if status.Code(err) == codes.Aborted && index != 0 {
			// Changed meanwhile: whether by something that matters, a new plan shows.
			if err := s.overtaken(ctx, index); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := s.inEffect(ctx, index); err != nil {
			return err
		}
		summary.Index = index
		break
	}
	for _, d := range p.differences {
		if err := stream.Send(&pb.ApplyConfigurationResponse{What: &pb.ApplyConfigurationResponse_Difference{Difference: d}}); err != nil {
			return err
		}
	}
	return stream.Send(&pb.ApplyConfigurationResponse{What: &pb.ApplyConfigurationResponse_Summary{Summary: summary}})
}

func receiveFile(stream pb.SettingsService_ApplyConfigurationServer) (*pb.ApplyConfigurationRequest_Options, []byte, error) {
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	options := first.GetOptions() // nil where there was no request at all
	if options == nil {
		return nil, nil, invalid("options", "the first request has the options")
	}
	var text []byte
	for {
		next, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return options, text, nil
		}
		if err != nil {
			return nil, nil, err
		}
		text = append(text, next.GetData()...)
		if len(text) > fsm.MaxConfigurationSize {
			return nil, nil, invalid("data", "the file has more than %d MiB: cut it in two, what a file doesn't mention stays", fsm.MaxConfigurationSize>>20)
		}
	}
}

// planned is what a file changes now, if it may. The differences of the plan stay
// good when its view is gone.
func (s *settingsService) planned(ctx context.Context, file *configfile.File, options *pb.ApplyConfigurationRequest_Options) (*plan, *pb.ConfigurationSummary, error) {
	revision, foreign, err := s.comparedWith(ctx, file.Revision, options)
	if err != nil {
		return nil, nil, err
	}
	w, err := s.window(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer w.release()
	p := w.plan(file, options.Prune)
	if p.err != nil {
		return nil, nil, p.err
	}
	if len(p.problems) > 0 {
		return nil, nil, problemsError(codes.InvalidArgument, p.problems,
			numbered(len(p.problems), "error")+", nothing was changed")
	}
	if n := len(p.differences) + p.sizeOfLists(); n > fsm.MaxConfigured {
		return nil, nil, invalid("data", "the file changes %d things, at most %d can be changed at once: cut it in two, what a file doesn't mention stays; long lists of recipients are for `holdfast recipient import`", n, fsm.MaxConfigured)
	}
	p.sorted()
	summary, err := p.summary()
	if err != nil {
		return nil, nil, status.Error(codes.Internal, err.Error())
	}
	summary.ForeignRevision = foreign
	if revision != 0 {
		if err := s.checkRevision(ctx, p, revision); err != nil {
			return nil, nil, err
		}
	}
	return p, summary, nil
}

// problemsError lists what keeps a file from being applied. A count in the text
// is of all, the details have the first.
func problemsError(code codes.Code, problems []configfile.Problem, text string) error {
	slices.SortStableFunc(problems, func(a, b configfile.Problem) int { return a.Line - b.Line })
	detail := &errdetails.BadRequest{}
	for _, p := range problems[:min(len(problems), maxProblems)] {
		field := ""
		if p.Line > 0 {
			field = fmt.Sprintf("line %d", p.Line)
		}
		detail.FieldViolations = append(detail.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: field, Description: p.Text})
	}
	return withDetail(code, text, detail)
}

func numbered(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
