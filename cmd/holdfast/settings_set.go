package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

func (a *app) settingsSetCommand() *cobra.Command {
	var retention, grace, frozen, oldest, valid, invalid durationFlag
	var size, drill, postmaster, networks string
	var pending uint64
	cmd := &cobra.Command{
		Use:   "set [--log-retention D] [--delete-grace D] [--frozen-age D] [--max-message-size N] …",
		Short: "Change settings",
		Long: `Change what is given; the rest stays. It returns when every node has it.

--log-retention: how long the log keeps messages that have ended; then they go,
with all their attempts. What is pending, held or frozen stays.

--postmaster: who gets mail to <Postmaster> without a domain, which every mail server
must take (RFC 5321 section 4.5.1). The address is in a domain that is configured
here. Until one is set, such mail is refused; '' unsets it.

--relay-networks: whose clients may send mail to domains that aren't configured, by
the route that "holdfast domain set '*'" makes. Addresses and networks, IPv4 and
IPv6, separated by commas; they replace those there were, '' leaves none.

--verify-valid, --verify-invalid: how long it is good what a destination said of a
recipient of a domain with --verify callout: that there is one, and that there is
none. What is known already keeps its time.`,
		Example: `  holdfast settings set --log-retention 90d
  holdfast settings set --max-message-size 100M --warn-oldest 1h
  holdfast settings set --postmaster postmaster@example.com
  holdfast settings set --relay-networks 10.0.0.0/8,2001:db8:1::/48,192.0.2.7
  holdfast settings set --verify-valid 4d --verify-invalid 30m`,
		Args: noArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			set := &pb.Settings{}
			for name, to := range map[string]struct {
				flag  *durationFlag
				field **int64
			}{
				"log-retention": {&retention, &set.LogRetention}, "delete-grace": {&grace, &set.DeleteGrace},
				"frozen-age": {&frozen, &set.FrozenAge}, "warn-oldest": {&oldest, &set.WarnOldest},
				"verify-valid": {&valid, &set.VerifyValid}, "verify-invalid": {&invalid, &set.VerifyInvalid},
			} {
				if cmd.Flags().Changed(name) {
					*to.field = new(int64(to.flag.value))
				}
			}
			if cmd.Flags().Changed("warn-pending") {
				set.WarnPending = &pending
			}
			if cmd.Flags().Changed("max-message-size") {
				bytes, err := parseSize(size)
				if err != nil {
					return err
				}
				set.MaxMessageSize = &bytes
			}
			if cmd.Flags().Changed("drill-consent") {
				consent, err := parseYesNo("drill-consent", drill)
				if err != nil {
					return err
				}
				set.DrillConsent = &consent
			}
			if cmd.Flags().Changed("postmaster") {
				set.Postmaster = &postmaster
			}
			if cmd.Flags().Changed("relay-networks") {
				set.RelayNetworks = &pb.RelayNetworks{Networks: parseList(networks)}
			}
			return a.withNode(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := pb.NewSettingsServiceClient(conn).SetSettings(ctx, &pb.SetSettingsRequest{Settings: set})
				if err != nil {
					return err
				}
				return a.showSettings(r.Settings)
			})
		},
	}
	flags := cmd.Flags()
	flags.Var(&retention, "log-retention", "how long the log keeps messages that have ended (default 30d)")
	flags.Var(&grace, "delete-grace", "how long a deletion can be undone (default 10m)")
	flags.Var(&frozen, "frozen-age", "when a frozen report goes (default 30d)")
	flags.StringVar(&size, "max-message-size", "", "longest message taken, bytes, or with K, M or G (default 50M)")
	flags.Uint64Var(&pending, "warn-pending", 0, "warn of a destination with so many pending recipients, 0 never (default 10000)")
	flags.Var(&oldest, "warn-oldest", "warn of pending mail of this age, 0s never (default 4h)")
	flags.StringVar(&drill, "drill-consent", "", "yes or no: whether drills may kill or cut off a node (default no)")
	flags.StringVar(&postmaster, "postmaster", "", "who gets mail to <Postmaster> without a domain")
	flags.StringVar(&networks, "relay-networks", "", "addresses and networks whose clients may send to any domain, '' for none")
	allowEmpty(flags, "postmaster", "relay-networks")
	flags.Var(&valid, "verify-valid", "how long a recipient that a destination took is known as valid (default 4d)")
	flags.Var(&invalid, "verify-invalid", "how long one that it refused is known as invalid (default 2h)")
	return cmd
}

// parseSize takes bytes, or a number with K, M or G for powers of 1024.
func parseSize(s string) (int64, error) {
	number, unit := s, int64(1)
	for suffix, factor := range map[string]int64{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30} {
		if rest, ok := strings.CutSuffix(strings.ToUpper(s), suffix); ok {
			number, unit = rest, factor
		}
	}
	n, err := strconv.ParseInt(number, 10, 32)
	if unit == 1 {
		n, err = strconv.ParseInt(number, 10, 64)
	}
	if err != nil || n < 0 {
		return 0, usage("size %q: want bytes, or a number with K, M or G", s)
	}
	return n * unit, nil
}

// parseList takes what stands between commas, none of an empty text.
func parseList(s string) []string {
	if strings.TrimSpace(s) == "" {
		return nil
	}
	items := strings.Split(s, ",")
	for i, item := range items {
		items[i] = strings.TrimSpace(item)
	}
	return items
}

func parseYesNo(name, s string) (bool, error) {
	switch s {
	case "yes", "true":
		return true, nil
	case "no", "false":
		return false, nil
	}
	return false, usage("--%s %s: want yes or no", name, s)
}
