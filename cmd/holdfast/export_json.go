package main

import (
	"fmt"

	"holdfast/admin/configfile"
	pb "holdfast/proto/holdfast/v1"
)

// What each line of export --json has: what is configured of a thing, named and in
// units as by its own show --json, without counts and health.
type (
	exportedRevisionJSON struct {
		Kind    string `json:"kind"`
		Index   uint64 `json:"index"`
		Cluster string `json:"cluster"`
	}
	exportedSettingsJSON struct {
		Kind string `json:"kind"`
		settingsJSON
	}
	exportedPolicyJSON struct {
		Kind        string      `json:"kind"`
		Name        string      `json:"name"`
		Phases      []phaseJSON `json:"phases"`
		Retention   float64     `json:"retention"`
		MaxAttempts *uint32     `json:"maxAttempts"`
		WarnAfter   *float64    `json:"warnAfter"`
		Jitter      float64     `json:"jitter"`
	}
	exportedDestinationJSON struct {
		Kind     string     `json:"kind"`
		Name     string     `json:"name"`
		Hosts    []hostJSON `json:"hosts"`
		MX       *string    `json:"mx"`
		Slots    uint32     `json:"slots"`
		TLS      string     `json:"tls"`
		ProbeMax float64    `json:"probeMaxSeconds"`
		On5xx    string     `json:"on5xx"`
		AuthUser *string    `json:"authUser"`
	}
	exportedDomainJSON struct {
		Kind          string   `json:"kind"`
		Name          string   `json:"name"`
		Destination   string   `json:"destination"`
		Policy        string   `json:"policy"`
		Verify        string   `json:"verify"`
		Recipients    []string `json:"recipients"`
		SpamIf        []string `json:"spamIf"`
		SpamRetention float64  `json:"spamRetention"`
		MaxMessages   *uint64  `json:"maxMessages"`
		MaxBytes      *uint64  `json:"maxBytes"`
	}
)

// writeExport writes a file that a node exported, in its order.
func (a *app) writeExport(file *configfile.File) error {
	if len(file.Problems) > 0 {
		return fmt.Errorf("the node's export has what this program can't read, is it newer? %s", file.Problems[0].Text)
	}
	var lines []any
	if file.Revision.Index != 0 {
		lines = append(lines, exportedRevisionJSON{"revision", file.Revision.Index, file.Revision.Cluster})
	}
	lines = append(lines, exportedSettingsJSON{configfile.Settings, toSettingsJSON(file.Settings.Request)})
	for _, e := range file.Policies {
		lines = append(lines, toExportedPolicy(e.Request))
	}
	for _, e := range file.Destinations {
		lines = append(lines, toExportedDestination(e.Request))
	}
	for _, e := range file.Domains {
		lines = append(lines, toExportedDomain(e))
	}
	for _, line := range lines {
		if err := a.writeJSON(line); err != nil {
			return err
		}
	}
	return nil
}

func toExportedPolicy(r *pb.SetPolicyRequest) exportedPolicyJSON {
	shown := toPolicyJSON(&pb.Policy{Phases: r.Phases, Retention: r.Retention, MaxAttempts: r.GetMaxAttempts(), WarnAfter: r.WarnAfter, Jitter: r.GetJitter()})
	return exportedPolicyJSON{
		Kind: configfile.Policy, Name: r.Name, Phases: shown.Phases, Retention: shown.Retention,
		MaxAttempts: shown.MaxAttempts, WarnAfter: shown.WarnAfter, Jitter: shown.Jitter,
	}
}

func toExportedDestination(r *pb.SetDestinationRequest) exportedDestinationJSON {
	return exportedDestinationJSON{
		Kind: configfile.Destination, Name: r.Name, Hosts: toHostsJSON(r.Hosts), MX: orNull(r.GetMx()), Slots: r.GetSlots(), TLS: r.GetTls(),
		ProbeMax: r.ProbeMax.AsDuration().Seconds(), On5xx: r.GetOn_5Xx(), AuthUser: orNull(r.GetAuthUser()),
	}
}

func toExportedDomain(entry configfile.DomainEntry) exportedDomainJSON {
	r := entry.Request
	recipients := []string{}
	for _, item := range entry.Recipients {
		recipients = append(recipients, item.Text)
	}
	shown := toDomainJSON(&pb.Domain{
		Name: r.Name, Verify: r.GetVerify(), Destination: r.GetDestination(), Policy: r.GetPolicy(), SpamIf: r.SpamIf, SpamRetention: r.SpamRetention,
		MaxMessages: r.GetMaxMessages(), MaxBytes: r.GetMaxBytes(),
	})
	return exportedDomainJSON{
		Kind: configfile.Domain, Name: shown.Name, Destination: shown.Destination, Policy: shown.Policy, Verify: shown.Verify, Recipients: recipients,
		SpamIf: shown.SpamIf, SpamRetention: shown.SpamRetention, MaxMessages: shown.MaxMessages, MaxBytes: shown.MaxBytes,
	}
}
