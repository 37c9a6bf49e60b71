package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/test/harness"
)

// postfix is an instance of the system's Postfix with configuration and queue
// of its own; the system's own instance is not touched.
type postfix struct {
	config  string
	address string
	log     string
}

// mainCF leaves everything that costs or gains speed at its default: fsync of
// each message, process limits, concurrency of 20 to a destination. Lookups of
// client names are off, as they'd leave the machine. %s are queue directory,
// data directory, log file, its prefix and next hop.
const mainCF = `compatibility_level = 3.6
queue_directory = %s
data_directory = %s
maillog_file = %s
maillog_file_prefixes = %s
myhostname = postfix.bench.test
mydomain = bench.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
local_transport = error:no local delivery
alias_maps =
alias_database =
relay_domains = ` + domain + `
relayhost = [127.0.0.1]:%s
smtpd_peername_lookup = no
smtp_host_lookup = native
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
`

// masterCF is the default set of services, none in a chroot.
const masterCF = `%s inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// startPostfix makes an instance in dir that relays to nextHop. It needs root,
// as every Postfix does to start its daemons under their own user.
func startPostfix(ctx context.Context, dir, nextHop string) (*postfix, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("postfix starts only as root: run as root, or leave it out with -postfix=false")
	}
	if _, err := exec.LookPath("postfix"); err != nil {
		return nil, errors.New("postfix is not installed: apt-get install postfix, or leave it out with -postfix=false")
	}
	free, err := harness.FreeAddresses(1)
	if err != nil {
		return nil, err
	}
	p := &postfix{config: filepath.Join(dir, "etc"), log: filepath.Join(dir, "log"), address: free[0]}
	if err := p.write(dir, nextHop); err != nil {
		return nil, err
	}
	if err := p.command(ctx, "start"); err != nil {
		return nil, err
	}
	if err := p.waitListening(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *postfix) write(dir, nextHop string) error {
	_, nextPort, err := net.SplitHostPort(nextHop)
	if err != nil {
		return err
	}
	queue, data := filepath.Join(dir, "queue"), filepath.Join(dir, "data")
	for _, folder := range []string{p.config, queue, data} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	// Postfix wants its data directory to belong to mail_owner. The queue's
	// own folders it makes by itself.
	if output, err := exec.Command("chown", "postfix", data).CombinedOutput(); err != nil {
		return fmt.Errorf("chown: %w: %s", err, output)
	}
	main := fmt.Sprintf(mainCF, queue, data, p.log, dir, nextPort)
	master := fmt.Sprintf(masterCF, p.address)
	return errors.Join(
		os.WriteFile(filepath.Join(p.config, "main.cf"), []byte(main), 0o644),
		os.WriteFile(filepath.Join(p.config, "master.cf"), []byte(master), 0o644),
	)
}

// command runs postfix in a process group of its own, so that an interrupt
// from the terminal doesn't reach its daemons before they are stopped in order.
func (p *postfix) command(ctx context.Context, verb string) error {
	command := exec.CommandContext(ctx, "postfix", "-c", p.config, verb)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Not a pipe: the daemons inherit it, and a pipe would never be at its end.
	output, err := os.OpenFile(p.log+"."+verb, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	command.Stdout, command.Stderr = output, output
	err = errors.Join(command.Run(), output.Close())
	if err == nil {
		return nil
	}
	said, readErr := os.ReadFile(output.Name())
	log, logErr := os.ReadFile(p.log)
	return errors.Join(fmt.Errorf("postfix %s: %w\n%s%s", verb, err, said, log), readErr, logErr)
}

func (p *postfix) waitListening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return harness.Eventually(ctx, "postfix", func(ctx context.Context) error {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", p.address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// stop ends the instance; it is its own context, since it also follows an
// interrupt.
func (p *postfix) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return p.command(ctx, "stop")
}

// failures are the lines of the log that say that a message wasn't delivered
// at the first attempt: then the figures are not what they seem.
func (p *postfix) failures() ([]string, error) {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(content)) {
		// Of a file system whose clock is coarser than the kernel's: the mail went its way.
		if strings.Contains(line, "file system clock is") || strings.Contains(line, "resetting file time stamps") {
			continue
		}
		for _, sign := range []string{"status=deferred", "status=bounced", "warning:", "fatal:"} {
			if strings.Contains(line, sign) {
				found = append(found, strings.TrimSpace(line))
				break
			}
		}
	}
	return found, nil
}
