package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "holdfast/proto/holdfast/v1"
)

type destinationJSON struct {
	Name      string         `json:"name"`
	Hosts     []hostJSON     `json:"hosts"`
	Slots     uint32         `json:"slots"`
	TLS       string         `json:"tls"`
	ProbeMax  float64        `json:"probeMaxSeconds"`
	State     string         `json:"state"`
	Since     *string        `json:"since"`
	LastError *errorJSON     `json:"lastError"`
	NextProbe *string        `json:"nextProbe"`
	Owner     *string        `json:"owner"`
	MX        *string        `json:"mx"`
	On5xx     string         `json:"on5xx"`
	AuthUser  *string        `json:"authUser"`
	Suspended *suspendedJSON `json:"suspended"`
	Earlier   *earlierJSON   `json:"earlier"`
	knownJSON
}

// knownJSON counts recipients, all null for callers who are limited to domains:
// others' mail may go there too.
type knownJSON struct {
	Pending   *uint64 `json:"pending"`
	Held      *uint64 `json:"held"`
	Frozen    *uint64 `json:"frozen"`
	InDoubt   *uint64 `json:"inDoubt"`
	Delivered *uint64 `json:"delivered"`
	Failed    *uint64 `json:"failed"`
}

func toKnownJSON(c *pb.QueueCount) knownJSON {
	if c == nil {
		return knownJSON{}
	}
	return knownJSON{
		Pending: &c.Pending, Held: &c.Held, Frozen: &c.Frozen, InDoubt: &c.InDoubt, Delivered: &c.Delivered, Failed: &c.Failed,
	}
}

type suspendedJSON struct {
	Since  *string `json:"since"`
	By     string  `json:"by"`
	Reason *string `json:"reason"`
}

// earlierJSON is where mail went before the latest change of hosts.
type earlierJSON struct {
	Hosts []hostJSON `json:"hosts"`
	MX    *string    `json:"mx"`
	Until *string    `json:"until"`
}

type hostJSON struct {
	Address  string `json:"address"`
	Priority uint32 `json:"priority"`
	Weight   uint32 `json:"weight"`
}

func (a *app) destinationCommand() *cobra.Command {
	destination := group("destination", "Next hops: the mail servers that mail is delivered to",
		`A destination is one or more mail servers that take the mail of domains. Its
health is the cluster's: while it is down, one probe is all it costs.`)
	destination.AddCommand(a.destinationSetCommand(), a.destinationShowCommand(), a.destinationListCommand(),
		a.destinationRemoveCommand(), a.destinationRetryCommand(), a.destinationSuspendCommand(),
		a.destinationResumeCommand(), a.destinationTestCommand())
	return destination
}

func toDestinationJSON(d *pb.Destination) destinationJSON {
	out := destinationJSON{
		Name: d.Name, Hosts: toHostsJSON(d.Hosts), Slots: d.Slots, TLS: d.Tls, ProbeMax: d.ProbeMax.AsDuration().Seconds(),
		State: healthWord(d.State), Since: timeJSON(d.Since), LastError: toErrorJSON(d.Error),
		NextProbe: timeJSON(d.NextProbe), Owner: orNull(d.Owner), MX: orNull(d.Mx), On5xx: d.On_5Xx,
		AuthUser: orNull(d.AuthUser), knownJSON: toKnownJSON(d.Count),
	}
	if d.SuspendedSince != nil {
		out.Suspended = &suspendedJSON{Since: timeJSON(d.SuspendedSince), By: d.SuspendedBy, Reason: orNull(d.SuspendedReason)}
	}
	if d.EarlierUntil != nil {
		out.Earlier = &earlierJSON{Hosts: toHostsJSON(d.EarlierHosts), MX: orNull(d.EarlierMx), Until: timeJSON(d.EarlierUntil)}
	}
	return out
}

func toHostsJSON(hosts []*pb.DestinationHost) []hostJSON {
	out := []hostJSON{}
	for _, h := range hosts {
		out = append(out, hostJSON{Address: h.Address, Priority: h.Priority, Weight: h.Weight})
	}
	return out
}

func healthWord(state pb.DestinationHealth_State) string {
	return strings.ToLower(strings.TrimPrefix(state.String(), "STATE_"))
}

func (a *app) showDestination(d *pb.Destination) error {
	t := newTable(a.out)
	t.row("destination", d.Name)
	for i, h := range d.Hosts {
		name := ""
		if i == 0 {
			name = "hosts"
		}
		t.row(name, fmt.Sprintf("%s priority %d weight %d", h.Address, h.Priority, h.Weight))
	}
	if d.Mx != "" {
		t.row("hosts", hostList(d))
	}
	if d.EarlierUntil != nil {
		t.row("before", fmt.Sprintf("%s, until %s; --undo takes it back", earlierHosts(d), a.when(d.EarlierUntil)))
	}
	t.row("slots", d.Slots)
	t.row("tls", d.Tls)
	if d.AuthUser != "" {
		t.row("auth", "as "+d.AuthUser)
	}
	t.row("on 5xx", d.On_5Xx)
	t.row("probes", "every "+shortDuration(d.ProbeMax.AsDuration().Round(time.Second))+" at most while it is down")
	t.row("state", healthWord(d.State))
	if d.SuspendedSince != nil {
		t.row("suspended", strings.TrimSpace(fmt.Sprintf("since %s by %s %s", a.when(d.SuspendedSince), d.SuspendedBy, d.SuspendedReason)))
	}
	if d.Since != nil {
		t.row("since", a.when(d.Since))
	}
	if d.Error != nil {
		t.row("last error", describeError(d.Error))
	}
	if d.NextProbe != nil {
		t.row("next probe", a.when(d.NextProbe))
	}
	t.row("delivered by", "node "+dash(d.Owner))
	if d.Count != nil { // else others' mail would be in it
		countRows(t, d.Count)
	}
	return t.flush()
}
