// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a command that runs in a namespace, in a process group of its
// own. It ends with Kill or Stop, with the namespace's Delete, and when this
// program dies, however it dies.
type Process struct {
	cmd  *exec.Cmd
	ns   *Namespace
	done chan struct{} // closed when err is final
	err  error

	mu     sync.Mutex
	reaped bool // the pid may belong to somebody else
}

// Start runs cmd in the namespace. Stdin, Stdout, Stderr, Env and Dir are the
// caller's to set beforehand; process group and parent-death signal are set
// here. /proc/sys/net shows the namespace; /sys/class/net shows the
// caller's, because that depends on the mount.
func (n *Namespace) Start(cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = 2 * time.Second // a grandchild may hold the output open
	}
	p := &Process{cmd: cmd, ns: n, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the parent-death signal when the *thread* that
		// forked ends. So this thread waits for the child, and ends after it.
		runtime.LockOSThread()
		err := n.enter()
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			n.adopt(p)
		}
		started <- err
		if err == nil {
			p.wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", cmd.Path, n.name, err)
	}
	return p, nil
}

// wait runs until the process has ended. What is left of its process group is
// killed while the process is a zombie: until it is reaped nobody else can get
// its number.
func (p *Process) wait() {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
	p.reaped = true
	p.mu.Unlock()
	p.err = p.cmd.Wait()
	p.ns.release(p)
	close(p.done)
}

// Pid returns the process number.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and its output is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns when the process has ended: nil for exit status 0, else an
// *exec.ExitError.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Signal sends a signal to the process alone, not to its group. It returns
// os.ErrProcessDone when it has ended.
func (p *Process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return os.ErrProcessDone
	}
	return unix.Kill(p.Pid(), s)
}

// Stop sends SIGTERM and waits. If the process has not ended within grace it
// is killed, which the error says. A process that has ended already is no error.
func (p *Process) Stop(grace time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.done:
		return nil
	case <-t.C:
	}
	p.Kill()
	return fmt.Errorf("%s (pid %d) in %s did not end within %v of SIGTERM and was killed",
		p.cmd.Path, p.Pid(), p.ns.name, grace)
}

// Kill sends SIGKILL to the process group and waits for the end.
func (p *Process) Kill() {
	p.mu.Lock()
	if !p.reaped {
		unix.Kill(-p.Pid(), unix.SIGKILL)
	}
	p.mu.Unlock()
	<-p.done
}

func (p *Process) end() { p.Kill() }

// CleanEnv is this process's environment without what points the command line
// or the daemon at a user's own datastore.
func CleanEnv() (env []string) {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "ETCD_") && !strings.HasPrefix(kv, "FELIX_") {
			env = append(env, kv)
		}
	}
	return env
}
