// Package postfix runs an instance of the system's Postfix with configuration
// and queue of its own: as the relay to compare with, and as a mail server of
// another make behind ours.
package postfix

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

// Instance is a running Postfix; the system's own instance is not touched.
type Instance struct {
	Address string // where it takes mail
	config  string
	log     string
}

// mainCF leaves everything that costs or gains speed at its default: fsync of
// each message, process limits, concurrency of 20 to a destination. Lookups of
// client names are off, as they'd leave the machine. %s are queue directory,
// data directory, log file, its prefix, and the settings of who starts it.
const mainCF = `compatibility_level = 3.6
queue_directory = %s
data_directory = %s
maillog_file = %s
maillog_file_prefixes = %s
myhostname = postfix.test
mydomain = test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
local_transport = error:no local delivery
alias_maps =
alias_database =
smtpd_peername_lookup = no
smtp_host_lookup = native
%s
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
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// ErrMissing: there is no Postfix, or nobody who may start one.
var ErrMissing = errors.New("postfix can't be started")

// Start makes an instance in dir with settings for its main.cf. It needs root,
// as every Postfix does to start its daemons under their own user.
func Start(ctx context.Context, dir, settings string) (*Instance, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: only root may", ErrMissing)
	}
	if _, err := exec.LookPath("postfix"); err != nil {
		return nil, fmt.Errorf("%w: it is not installed (apt-get install postfix)", ErrMissing)
	}
	free, err := harness.FreeAddresses(1)
	if err != nil {
		return nil, err
	}
	p := &Instance{config: filepath.Join(dir, "etc"), log: filepath.Join(dir, "log"), Address: free[0]}
	if err := p.write(dir, settings); err != nil {
		return nil, err
	}
	if err := p.command(ctx, "start"); err != nil {
		return nil, err
	}
	if err := p.waitListening(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

func (p *Instance) write(dir, settings string) error {
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
	main := fmt.Sprintf(mainCF, queue, data, p.log, dir, settings)
	master := fmt.Sprintf(masterCF, p.Address)
	return errors.Join(
		os.WriteFile(filepath.Join(p.config, "main.cf"), []byte(main), 0o644),
		os.WriteFile(filepath.Join(p.config, "master.cf"), []byte(master), 0o644),
	)
}

// command runs postfix in a process group of its own, so that an interrupt
// from the terminal doesn't reach its daemons before they are stopped in order.
func (p *Instance) command(ctx context.Context, verb string) error {
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

func (p *Instance) waitListening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return harness.Eventually(ctx, "postfix", func(ctx context.Context) error {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", p.Address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// Stop ends the instance; it is its own context, since it also follows an
// interrupt.
func (p *Instance) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return p.command(ctx, "stop")
}

// Failures are the lines of the log that say that a message wasn't delivered
// at the first attempt: then the figures are not what they seem.
func (p *Instance) Failures() ([]string, error) {
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
