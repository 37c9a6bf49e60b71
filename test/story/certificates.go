package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"

	"holdfast/test/harness"
)

// issueFirst gives a node that is new its certificate, of the CA that signs now.
func (w *world) issueFirst(n *harness.Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if w.ca == "" {
		if err := w.makeCA(ctx, n, "ca"); err != nil {
			return err
		}
	}
	if err := w.trust(n, w.ca); err != nil {
		return err
	}
	return w.issue(ctx, n, w.ca)
}

// makeCA makes a CA and has it sign from now on.
func (w *world) makeCA(ctx context.Context, n *harness.Node, name string) error {
	dir := filepath.Join(w.Dir, name)
	if err := w.commandAt(ctx, n, "tls", "init", "--dir", dir, "--name", name); err != nil {
		return err
	}
	w.ca = dir
	return nil
}

// trust puts CAs into the file of a node.
func (w *world) trust(n *harness.Node, authorities ...string) error {
	var certificates []string
	for _, dir := range authorities {
		certificates = append(certificates, filepath.Join(dir, "ca.pem"))
	}
	if err := os.MkdirAll(filepath.Dir(n.TLSFiles().CA), 0o700); err != nil {
		return err
	}
	return copyFile(n.TLSFiles().CA, certificates...)
}

// issue signs a certificate for a node and puts it in place.
func (w *world) issue(ctx context.Context, n *harness.Node, ca string) error {
	host, _, err := net.SplitHostPort(n.Admin)
	if err != nil {
		return err
	}
	out := filepath.Join(ca, "nodes")
	if err := w.commandAt(ctx, n, "tls", "issue", "node", n.Name, "--host", host, "--dir", ca, "--out", out); err != nil {
		return err
	}
	base, files := filepath.Join(out, "node-"+n.Name), n.TLSFiles()
	return errors.Join(copyFile(files.Cert, base+".pem"), copyFile(files.Key, base+"-key.pem"))
}

// rotate replaces the CA and all certificates, by the steps of docs/operate.md.
func (w *world) rotate(ctx context.Context) error {
	old := w.ca
	if err := w.makeCA(ctx, w.cluster.Nodes[0], "ca2"); err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func(*harness.Node) error
	}{
		{"both CAs are trusted", func(n *harness.Node) error { return w.trust(n, old, w.ca) }},
		{"all certificates are of the new CA", func(n *harness.Node) error { return w.issue(ctx, n, w.ca) }},
		{"the new CA alone is trusted", func(n *harness.Node) error { return w.trust(n, w.ca) }},
	} {
		for _, n := range w.cluster.Nodes {
			if err := w.reload(ctx, n, step.do); err != nil {
				return err
			}
		}
		w.Say("%s, on all nodes", step.what)
	}
	return w.awaitVoters(ctx)
}

func (w *world) reload(ctx context.Context, n *harness.Node, change func(*harness.Node) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := change(n); err != nil {
		return err
	}
	if err := n.Reload(ctx); err != nil {
		return err
	}
	return n.WaitReady(ctx)
}
