package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"holdfast/pki"
)

type tlsIssue struct {
	*app
	dir, out, valid string
	hosts           []string
}

func (a *app) tlsIssueCommand() *cobra.Command {
	i := &tlsIssue{app: a}
	cmd := group("issue", "Sign a certificate for a node or a person",
		`Sign a certificate with the CA that "tls init" made. A node's is for its node_id and
for the hosts at which it is reached; it is what makes a machine a node of the
cluster. A person's carries a role: viewer reads, operator acts on mail, admin does
all. There is no list of revoked certificates: a key that is lost stays good until
its end, or until the CA is replaced (docs/operate.md), so people's are short.`)
	cmd.Example = `  holdfast tls issue node a --host mx-a.example.net --host 10.0.0.1
  holdfast tls issue admin root --dir ./holdfast-ca --out ./certificates
  holdfast tls issue viewer grafana --valid 365d`
	flags := cmd.PersistentFlags()
	flags.StringVar(&i.dir, "dir", ".", "folder of the CA's files")
	flags.StringVar(&i.out, "out", ".", "folder to make the files in")
	flags.StringVar(&i.valid, "valid", "", "how long it is good (default 365d for a node, 90d for a person)")
	cmd.AddCommand(i.command(pki.Node, "a node", nodeLasts), i.command(pki.Admin, "an administrator", clientLasts),
		i.command(pki.Operator, "an operator", clientLasts), i.command(pki.Viewer, "a viewer", clientLasts))
	return cmd
}

func (i *tlsIssue) command(kind pki.Kind, whose string, usual time.Duration) *cobra.Command {
	name := "NAME"
	cmd := &cobra.Command{
		Use:     string(kind) + " NAME",
		Short:   "Sign a certificate for " + whose,
		Long:    fmt.Sprintf("Sign a certificate for %s: %s-NAME.pem and %s-NAME-key.pem.\nNothing is overwritten.", whose, kind, kind),
		Example: fmt.Sprintf("  holdfast tls issue %s alice", kind),
		RunE: func(_ *cobra.Command, args []string) error {
			return i.run(pki.Identity{Kind: kind, Name: args[0]}, usual)
		},
	}
	if kind == pki.Node {
		name = "NODE_ID"
		cmd.Use = "node NODE_ID --host HOST..."
		cmd.Example = "  holdfast tls issue node a --host mx-a.example.net --host 10.0.0.1"
		cmd.Flags().StringSliceVar(&i.hosts, "host", nil, "DNS name or IP address at which the node is reached, several are allowed")
	}
	cmd.Args = oneArgument(name)
	return cmd
}

func (i *tlsIssue) run(id pki.Identity, usual time.Duration) error {
	if err := id.Validate(); err != nil {
		return usage("%v", err)
	}
	if id.Kind == pki.Node && len(i.hosts) == 0 {
		return usage("say with --host at which DNS names and IP addresses node %s is reached", id.Name)
	}
	ca, err := i.authority()
	if err != nil {
		return err
	}
	validity, err := i.lasting(i.valid, usual)
	if err != nil {
		return err
	}
	if i.valid == "" && validity.NotAfter.After(ca.Cert.NotAfter) {
		validity.NotAfter = ca.Cert.NotAfter
	}
	if !validity.NotAfter.After(i.now()) {
		return fmt.Errorf("the CA in %s ended on %s: make another one with `holdfast tls init`", i.dir, day(ca.Cert.NotAfter))
	}
	pair, err := ca.Issue(id, i.hosts, validity)
	if err != nil {
		return usage("%v", err)
	}
	if err := os.MkdirAll(i.out, 0o700); err != nil {
		return err
	}
	base := filepath.Join(i.out, string(id.Kind)+"-"+id.Name)
	if err := pair.Write(base+".pem", base+"-key.pem"); err != nil {
		return err
	}
	_, err = fmt.Fprintf(i.app.out, "%s.pem  the certificate of %s, until %s\n%s-key.pem  its key\n", base, id, day(validity.NotAfter), base)
	return err
}

func (i *tlsIssue) authority() (*pki.CA, error) {
	var pair pki.Pair
	var err error
	cert, key := authorityFiles(i.dir)
	if pair.Cert, err = os.ReadFile(cert); err == nil {
		pair.Key, err = os.ReadFile(key)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no CA in %s: make one with `holdfast tls init`, or say with --dir where its files are", i.dir)
	}
	if err != nil {
		return nil, err
	}
	ca, err := pki.ParseCA(pair)
	if err != nil {
		return nil, fmt.Errorf("the CA in %s: %w", i.dir, err)
	}
	return ca, nil
}
