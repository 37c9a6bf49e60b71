package main

import (
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"holdfast/pki"
	"holdfast/relay"
)

// How long certificates are good unless --valid says otherwise. There is no
// list of revoked ones, so a person's is short.
const (
	caLasts     = 10 * 365 * 24 * time.Hour
	nodeLasts   = 365 * 24 * time.Hour
	clientLasts = 90 * 24 * time.Hour
)

func (a *app) tlsCommand() *cobra.Command {
	cmd := group("tls", "Certificates of nodes and administrators",
		`Make the cluster's certificate authority (CA), once, and have it sign a certificate
for each node and each person. Nothing here talks to a node. The CA's key is needed
for these commands only: keep it off the nodes. A node's file names its three:

  [tls]
  ca   = "/etc/holdfast/ca.pem"
  cert = "/etc/holdfast/node-a.pem"
  key  = "/etc/holdfast/node-a-key.pem"`)
	cmd.Example = `  holdfast tls init
  holdfast tls issue node a --host mx-a.example.net --host 10.0.0.1
  holdfast tls issue operator alice`
	cmd.AddCommand(a.tlsInitCommand(), a.tlsIssueCommand())
	return cmd
}

// authorityFiles are the CA's certificate and key in a folder.
func authorityFiles(dir string) (cert, key string) {
	return filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
}

// lasting reads --valid, "" being the default, and says from when until when.
func (a *app) lasting(flag string, usual time.Duration) (pki.Validity, error) {
	lasts := usual
	if flag != "" {
		var err error
		if lasts, err = relay.ParseDuration(flag); err != nil {
			return pki.Validity{}, usage("--valid %q: %v", flag, err)
		}
		if lasts <= 0 {
			return pki.Validity{}, usage("--valid %q: want a time such as 365d", flag)
		}
	}
	return pki.From(a.now(), lasts), nil
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
