package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
	"holdfast/relay"
)

type settingsJSON struct {
	LogRetention   float64 `json:"logRetentionSeconds"`
	DeleteGrace    float64 `json:"deleteGraceSeconds"`
	FrozenAge      float64 `json:"frozenAgeSeconds"`
	MaxMessageSize int64   `json:"maxMessageSize"`
	WarnPending    uint64  `json:"warnPending"`
	WarnOldest     float64 `json:"warnOldestSeconds"`
	DrillConsent   bool    `json:"drillConsent"`
	Postmaster     *string `json:"postmaster"`

	RelayNetworks []string `json:"relayNetworks"`
	VerifyValid   float64  `json:"verifyValidSeconds"`
	VerifyInvalid float64  `json:"verifyInvalidSeconds"`
}

func (a *app) settingsShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Show all settings",
		Long:    "Show all settings, with the defaults of those that were never changed.",
		Example: "  holdfast settings show",
		Args:    noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewSettingsServiceClient(conn).GetSettings(ctx, &pb.GetSettingsRequest{})
				if err != nil {
					return err
				}
				a.warnStale(r.Stale)
				if asJSON {
					return a.writeJSON(toSettingsJSON(r.Settings))
				}
				return a.showSettings(r.Settings)
			})
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func toSettingsJSON(s *pb.Settings) settingsJSON {
	seconds := func(nanoseconds int64) float64 { return time.Duration(nanoseconds).Seconds() }
	return settingsJSON{
		LogRetention: seconds(s.GetLogRetention()), DeleteGrace: seconds(s.GetDeleteGrace()),
		FrozenAge: seconds(s.GetFrozenAge()), MaxMessageSize: s.GetMaxMessageSize(),
		WarnPending: s.GetWarnPending(), WarnOldest: seconds(s.GetWarnOldest()), DrillConsent: s.GetDrillConsent(),
		Postmaster:    orNull(s.GetPostmaster()),
		RelayNetworks: append([]string{}, s.GetRelayNetworks().GetNetworks()...),
		VerifyValid:   seconds(s.GetVerifyValid()), VerifyInvalid: seconds(s.GetVerifyInvalid()),
	}
}

// showSettings names settings as the flags of `settings set` do.
func (a *app) showSettings(s *pb.Settings) error {
	t := newTable(a.out)
	t.row("log-retention", relay.FormatDuration(time.Duration(s.GetLogRetention())))
	t.row("delete-grace", relay.FormatDuration(time.Duration(s.GetDeleteGrace())))
	t.row("frozen-age", relay.FormatDuration(time.Duration(s.GetFrozenAge())))
	t.row("max-message-size", fmt.Sprintf("%d bytes", s.GetMaxMessageSize()))
	t.row("warn-pending", s.GetWarnPending())
	t.row("warn-oldest", relay.FormatDuration(time.Duration(s.GetWarnOldest())))
	t.row("drill-consent", yesNo(s.GetDrillConsent()))
	t.row("postmaster", dash(s.GetPostmaster()))
	t.row("relay-networks", cmp.Or(strings.Join(s.GetRelayNetworks().GetNetworks(), ", "), "none"))
	t.row("verify-valid", relay.FormatDuration(time.Duration(s.GetVerifyValid())))
	t.row("verify-invalid", relay.FormatDuration(time.Duration(s.GetVerifyInvalid())))
	return t.flush()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
