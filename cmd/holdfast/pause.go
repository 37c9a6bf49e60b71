package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// wakers is how many processes are started to wake this one: a process that is
// stopped can't start another where the first is gone.
const wakers = 2

// pauseProcess stops this process with SIGSTOP, every thread of it, and has it
// go on after a while. The signal that wakes it comes from processes that this
// one starts before.
func pauseProcess(d time.Duration) (err error) {
	var wake []*exec.Cmd
	defer func() {
		for _, cmd := range wake {
			// Their end says nothing any more: this process goes on.
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	for range wakers {
		cmd, err := startWaker(d)
		if err != nil {
			return err
		}
		wake = append(wake, cmd)
	}
	stopped := time.Now()
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		return err
	}
	// The signal is taken before the system call returns, or at the next one.
	for time.Since(stopped) < d/2 {
		if time.Since(stopped) > time.Second {
			return errors.New("it can't be stopped: process 1 of a container ignores SIGSTOP")
		}
		syscall.Getpid()
	}
	return nil
}

// startWaker returns once the process is there.
func startWaker(d time.Duration) (*exec.Cmd, error) {
	cmd := exec.Command("/proc/self/exe", wakeCommand, strconv.FormatInt(d.Milliseconds(), 10))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, errors.Join(fmt.Errorf("the process that is to wake this one: %w", err), cmd.Process.Kill(), cmd.Wait())
	}
	return cmd, nil
}

const wakeCommand = "wake-parent"

// wakeParentCommand is for the server itself: it isn't shown.
func (a *app) wakeParentCommand() *cobra.Command {
	return &cobra.Command{
		Use: wakeCommand, Hidden: true, Args: oneArgument("time in milliseconds"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ms, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return usage("%v", err)
			}
			parent := os.Getppid()
			if _, err := fmt.Fprintln(a.out, "ready"); err != nil {
				return err
			}
			timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-cmd.Context().Done(): // told to end: the parent must not stay as it is
			}
			if os.Getppid() != parent {
				return nil // it is gone, and its number may be another's
			}
			return syscall.Kill(parent, syscall.SIGCONT)
		},
	}
}
