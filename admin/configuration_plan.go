package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"holdfast/admin/configfile"
	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

// plan is what a file changes of the configuration that a window shows.
type plan struct {
	window
	file  *configfile.File
	prune bool

	// What there will be.
	destinations map[string]*pb.DestinationConfig
	policies     map[string]relay.Policy
	domains      map[string]bool

	change      *pb.ConfigurationChange
	differences []*pb.ConfigurationDifference
	lines       map[string]int // of what differs
	problems    []configfile.Problem
	err         error // the state can't be read
}

func (w window) plan(file *configfile.File, prune bool) *plan {
	p := &plan{
		window: w, file: file, prune: prune, problems: slices.Clone(file.Problems),
		destinations: make(map[string]*pb.DestinationConfig), policies: make(map[string]relay.Policy),
		domains: make(map[string]bool), lines: make(map[string]int), change: &pb.ConfigurationChange{},
	}
	// Domains last: they name what comes before.
	p.planSettings()
	p.planPolicies()
	p.planDestinations()
	p.planDomains()
	p.planPostmaster()
	p.planRemovals()
	return p
}

// What stands for a policy's own where the file's are wrong, so that the rest of
// it can be checked.
const someRetention = 24 * time.Hour

func somePhases() []relay.RetryPhase {
	return []relay.RetryPhase{{Until: time.Hour, Every: time.Hour, Factor: 1}}
}

// Destination and Policy find what will be there, for the checks of domains.
func (p *plan) Destination(name string) (*pb.DestinationRecord, bool) {
	config, ok := p.destinations[name]
	return &pb.DestinationRecord{Config: config}, ok
}

func (p *plan) Policy(name string) (relay.Policy, bool) {
	policy, ok := p.policies[name]
	return policy, ok
}

// problem notes what a check of the admin services found, at the line of the
// field that it names.
func (p *plan) problem(err error, line func(field string) int) {
	p.problems = append(p.problems, configfile.Problem{Line: line(fieldOf(err)), Text: status.Convert(err).Message()})
}

func fieldOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		switch d := detail.(type) {
		case *errdetails.BadRequest:
			return d.FieldViolations[0].Field
		case *errdetails.ResourceInfo:
			return d.ResourceType
		}
	}
	return ""
}

// checkAll notes all that a check of the admin services finds: it ends with the
// first, so what that is about is taken out, and the rest checked again.
func checkAll[R proto.Message](p *plan, entry configfile.Entry[R], check func() error) {
	fields := entry.Request.ProtoReflect()
	for {
		err := check()
		if err == nil {
			return
		}
		name := fieldOf(err)
		field := fields.Descriptor().Fields().ByName(protoName(name))
		set := field != nil && name != "name" && fields.Has(field)
		if !set && entry.Has(name) {
			return // a value that was wrong by itself: that is said
		}
		p.problem(err, entry.Line)
		if !set {
			return
		}
		fields.Clear(field)
	}
}

func (p *plan) planSettings() {
	entry := p.file.Settings
	present := p.Settings()
	for _, v := range configfile.OfSettings(relay.DefaultSettings()) {
		if !entry.Has(v.Key) {
			continue
		}
		// Each by itself: the check names only the first that is out of its range.
		if err := settingAlone(entry.Request, v.Key); err != nil {
			p.problem(invalid(v.Key, "%v", err), entry.Line)
		}
	}
	now := fsm.SettingsOf(fsm.MergeSettings(settings(present), entry.Request))
	if p.differ(configfile.Settings, "", configfile.OfSettings(present), configfile.OfSettings(now), entry.Line("")) {
		p.change.Settings = entry.Request
	}
}

// settingAlone checks one setting among the defaults of the others.
func settingAlone(given *pb.Settings, name string) error {
	alone := &pb.Settings{}
	from, to := given.ProtoReflect(), alone.ProtoReflect()
	field := from.Descriptor().Fields().ByName(protoName(name))
	if from.Has(field) {
		to.Set(field, from.Get(field))
	}
	return fsm.SettingsOf(alone).Validate()
}

func (p *plan) planPolicies() {
	given := make(map[string]bool)
	for _, entry := range p.file.Policies {
		given[entry.Name] = true
		var policy relay.Policy
		if !entry.Bad && (!entry.Has("phases") || !entry.Has("retention")) {
			p.problem(invalid("", "policy %s: want phases = [\"until=2h,every=15m\"] and retention = \"4d\" at least", entry.Name), entry.Line)
		}
		checkAll(p, entry, func() error {
			policy = newPolicy(entry.Name)
			policy.Phases, policy.Retention = somePhases(), someRetention // where the file's are wrong
			return changePolicy(&policy, entry.Request)
		})
		p.policies[entry.Name] = policy // named by domains, however wrong it is
		_, existed := p.View.Policy(entry.Name)
		if p.differs(configfile.Policy, entry.Name, existed, p.valuesOf(configfile.Policy, entry.Name), configfile.OfPolicy(policy), entry.Line("")) {
			p.change.Policies = append(p.change.Policies, fsm.PolicyConfig(policy))
		}
	}
	for _, present := range p.Policies() {
		_, shipped := relay.ShippedPolicy(present.Name)
		switch {
		case given[present.Name]:
		case shipped || !p.prune:
			p.policies[present.Name] = present
		default:
			p.change.RemovedPolicies = append(p.change.RemovedPolicies, present.Name)
			p.removes(configfile.Policy, present.Name, configfile.OfPolicy(present))
		}
	}
}

func (p *plan) planDestinations() {
	given := make(map[string]bool)
	for _, entry := range p.file.Destinations {
		given[entry.Name] = true
		present, existed := p.View.Destination(entry.Name)
		var config *pb.DestinationConfig
		if !entry.Bad && !entry.Has("hosts") && !entry.Has("mx") {
			p.problem(invalid("", "destination %s: say where it is, with hosts = [\"HOST:PORT\"] or mx = \"NAME\"", entry.Name), entry.Line)
		}
		checkAll(p, entry, func() error {
			config = newDestination(entry.Name)
			config.Mx = "where.the.file.is.wrong"
			user := entry.Request.GetAuthUser()
			if old := present.GetConfig(); old.GetAuthUser() == user {
				// The file has no password unless somebody put it there: what is set stays.
				config.AuthUser, config.AuthPassword = user, old.GetAuthPassword()
			}
			if user != "" && config.AuthPassword == "" && entry.Request.AuthPassword == nil {
				return invalid("auth_user", "destination %s: the cluster has no password for user %s: put auth_password = \"…\" below it for this time, it is not exported", entry.Name, user)
			}
			return changeDestination(config, entry.Request)
		})
		p.destinations[entry.Name] = config
		old, now := p.valuesOf(configfile.Destination, entry.Name), configfile.OfDestination(config)
		if existed {
			old, now = withPasswords(old, now, present.Config, config)
		}
		if p.differs(configfile.Destination, entry.Name, existed, old, now, entry.Line("")) {
			p.change.Destinations = append(p.change.Destinations, config)
		}
	}
	for _, present := range p.Destinations() {
		name := present.Config.GetName()
		switch {
		case given[name]:
		case !p.prune:
			p.destinations[name] = present.Config
		default:
			p.change.RemovedDestinations = append(p.change.RemovedDestinations, name)
			p.removes(configfile.Destination, name, configfile.OfDestination(present.Config))
		}
	}
}

// newDomain is what a domain is changed from. Every export says how a domain verifies
// its recipients: a file that doesn't is from before that was known, and leaves it.
func (p *plan) newDomain(name string, entry configfile.DomainEntry) *pb.DomainConfig {
	domain := newDomain(name)
	if present, ok := p.Domain(name); ok && !entry.Has("verify") {
		domain.Verify = present.Verify
	}
	return domain
}

func (p *plan) planDomains() {
	given := make(map[string]int)
	for _, entry := range p.file.Domains {
		name, err := domainName(entry.Name)
		if err != nil {
			p.problem(err, entry.Line)
			continue
		}
		if _, twice := given[name]; twice {
			p.problem(invalid("", "domain %s is there twice", name), entry.Line)
			continue
		}
		given[name] = entry.Line("")
		p.domains[name] = true
		domain := p.newDomain(name, entry)
		if !entry.Bad && !entry.Has("destination") {
			p.problem(invalid("", "domain %s: say where its mail goes, with destination = \"NAME\"", name), entry.Line)
		} else {
			checkAll(p, entry.Entry, func() error {
				domain = p.newDomain(name, entry)
				return p.pruned(changeDomain(domain, entry.Request, p))
			})
		}
		_, existed := p.Domain(name)
		old, now := p.valuesOf(configfile.Domain, name), configfile.OfDomain(domain)
		if !existed || !slices.Equal(old, now) {
			p.change.Domains = append(p.change.Domains, domain)
		}
		before, after := p.planRecipients(name, entry)
		old, now = withList(old, before), withList(now, after)
		p.differs(configfile.Domain, name, existed, old, now, entry.Line(""))
	}
	for _, present := range p.Domains() {
		_, stays := given[present.Name]
		switch {
		case stays || !p.prune:
			p.domains[present.Name] = true
		default:
			p.change.RemovedDomains = append(p.change.RemovedDomains, present.Name)
			old := configfile.OfDomain(present)
			if n := p.DomainCounter(present.Name).GetListed(); n > 0 {
				old = withList(old, listedText(int(n), nil, nil))
			}
			p.removes(configfile.Domain, present.Name, old)
		}
	}
}

// withList adds how a domain's list is shown, if it is.
func withList(values []configfile.Value, list string) []configfile.Value {
	if list == "" {
		return values
	}
	return append(values, configfile.Value{Key: recipientsKey, Text: list})
}

// pruned says it where a name dangles only because --prune removes what it names.
func (p *plan) pruned(err error) error {
	for _, detail := range status.Convert(err).Details() {
		if d, ok := detail.(*errdetails.ResourceInfo); ok && p.prune {
			_, destination := p.View.Destination(d.ResourceName)
			_, policy := p.View.Policy(d.ResourceName)
			if d.ResourceType == "destination" && destination || d.ResourceType == "policy" && policy {
				return notFound(d.ResourceType, d.ResourceName,
					d.ResourceType+" "+d.ResourceName+" isn't in the file, and --prune would remove it: add it to the file")
			}
		}
	}
	return err
}

// noLine is where a problem is that comes of what the file doesn't mention.
func noLine(string) int { return 0 }

// planRemovals finds what can't be removed. Applying the event checks again, at
// its own index.
func (p *plan) planRemovals() {
	for _, name := range p.change.RemovedDestinations {
		// Domains that name it are problems of their own, at their lines.
		if err := p.destinationInUse(name, nil); err != nil {
			p.problem(err, noLine)
		}
	}
	for _, name := range p.change.RemovedDomains {
		if err := p.domainInUse(name); err != nil {
			p.problem(err, noLine)
		}
	}
}

// differs notes a difference, and reports whether there is one.
func (p *plan) differs(kind, name string, existed bool, old, now []configfile.Value, line int) bool {
	if existed {
		return p.differ(kind, name, old, now, line)
	}
	d := &pb.ConfigurationDifference{Action: pb.ConfigurationDifference_ACTION_CREATE, Kind: kind, Name: name}
	for _, v := range now {
		d.Values = append(d.Values, &pb.ConfigurationDifference_Value{Key: v.Key, New: v.Text})
	}
	p.note(d, line)
	return true
}

func (p *plan) differ(kind, name string, old, now []configfile.Value, line int) bool {
	d := &pb.ConfigurationDifference{Action: pb.ConfigurationDifference_ACTION_CHANGE, Kind: kind, Name: name}
	before := make(map[string]string, len(old))
	for _, v := range old {
		before[v.Key] = v.Text
	}
	for _, v := range now {
		if before[v.Key] != v.Text {
			d.Values = append(d.Values, &pb.ConfigurationDifference_Value{Key: v.Key, Old: before[v.Key], New: v.Text})
		}
		delete(before, v.Key)
	}
	for _, v := range old {
		if _, gone := before[v.Key]; gone {
			d.Values = append(d.Values, &pb.ConfigurationDifference_Value{Key: v.Key, Old: v.Text})
		}
	}
	if len(d.Values) == 0 {
		return false
	}
	p.note(d, line)
	return true
}

func (p *plan) removes(kind, name string, old []configfile.Value) {
	d := &pb.ConfigurationDifference{Action: pb.ConfigurationDifference_ACTION_REMOVE, Kind: kind, Name: name}
	for _, v := range old {
		d.Values = append(d.Values, &pb.ConfigurationDifference_Value{Key: v.Key, Old: v.Text})
	}
	p.note(d, 0)
}

func (p *plan) note(d *pb.ConfigurationDifference, line int) {
	p.differences = append(p.differences, d)
	p.lines[d.Kind+" "+d.Name] = line
}

// sorted puts differences into the order of an exported file.
func (p *plan) sorted() []*pb.ConfigurationDifference {
	order := []string{configfile.Settings, configfile.Policy, configfile.Destination, configfile.Domain}
	slices.SortStableFunc(p.differences, func(a, b *pb.ConfigurationDifference) int {
		if byKind := slices.Index(order, a.Kind) - slices.Index(order, b.Kind); byKind != 0 {
			return byKind
		}
		return strings.Compare(a.Name, b.Name)
	})
	return p.differences
}

func (p *plan) summary() (*pb.ConfigurationSummary, error) {
	s := &pb.ConfigurationSummary{Revision: p.Configured(), Stale: !p.quorum}
	for _, d := range p.differences {
		switch d.Action {
		case pb.ConfigurationDifference_ACTION_CREATE:
			s.Created++
		case pb.ConfigurationDifference_ACTION_CHANGE:
			s.Changed++
		default:
			s.Removed++
		}
	}
	if len(p.differences) == 0 {
		return s, nil
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(p.change)
	if err != nil {
		return nil, errors.Join(errors.New("configuration"), err)
	}
	sum := sha256.Sum256(encoded)
	s.Fingerprint = hex.EncodeToString(sum[:])
	return s, nil
}
