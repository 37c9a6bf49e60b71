package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"holdfast/pki"
)

func (a *app) tlsInitCommand() *cobra.Command {
	var dir, name, valid string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the cluster's certificate authority",
		Long: `Make the cluster's certificate authority: ca.pem, which every node and every
administrator gets, and ca-key.pem, which signs certificates and stays here.
Nothing is overwritten.`,
		Example: `  holdfast tls init
  holdfast tls init --dir ./holdfast-ca --name "mail cluster" --valid 3650d`,
		Args: noArguments(),
		RunE: func(*cobra.Command, []string) error {
			validity, err := a.lasting(valid, caLasts)
			if err != nil {
				return err
			}
			if name == "" {
				// Told apart from its successor's in warnings.
				name = "Holdfast CA " + day(a.now())
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			pair, err := pki.NewCA(name, validity)
			if err != nil {
				return err
			}
			cert, key := authorityFiles(dir)
			if err := pair.Write(cert, key); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "%s  the CA's certificate, for every node and administrator, until %s\n%s  its key: keep it safe, and off the nodes\n",
				cert, day(validity.NotAfter), key)
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "folder to make the files in")
	cmd.Flags().StringVar(&name, "name", "", "the CA's name, for people (default \"Holdfast CA\" and the day)")
	cmd.Flags().StringVar(&valid, "valid", "", "how long it is good (default 3650d)")
	return cmd
}
