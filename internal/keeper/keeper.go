// SPDX-License-Identifier: Apache-2.0

// Package keeper is a small process that keeps a socket of the agent open, and the
// agent's side of it. Tables of nftables belong to a netlink socket (see acl.Options.Own),
// and not to a process: while one has the socket open, nobody else can change them. So
// the death of the agent changes nothing, and the next agent gets the socket from the
// keeper and goes on with it.
//
// The keeper never reads from the socket nor writes to it. It listens in the run
// directory, for root alone. Whoever connects gets the descriptor of the socket with one byte, and ends the keeper
// by sending one. It ends in no other way: neither signals of a terminal nor of a service
// manager do. When it was killed, the agent starts another.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lock"
)

// Descriptor is where the process finds the socket that it is to keep.
const Descriptor = 3

const (
	socketName = "keeper.sock"
	answerTime = 5 * time.Second
)

// There is one for each network namespace and run directory.
var processLock = lock.Kind{What: "keeper of a socket", Socket: "@muslin-keeper", File: "keeper.lock"}

// Run is the process: it keeps descriptor fd open until it is told to end.
func Run(dir string, fd int) error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	held, err := lock.Take(processLock, dir)
	if err != nil {
		return err
	}
	defer held.Release()
	l, err := listen(dir)
	if err != nil {
		return err
	}
	defer l.Close()
	end := make(chan struct{}, 1)
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			select {
			case <-end:
				return nil
			default:
				return err
			}
		}
		go func() {
			defer conn.Close()
			if _, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(fd), nil); err != nil {
				return
			}
			if n, _ := conn.Read(make([]byte, 1)); n > 0 {
				end <- struct{}{}
				l.Close()
			}
		}()
	}
}

// listen opens the keeper's socket, for root alone. The directory is locked, so
// one that is there was left by a dead process.
func listen(dir string) (*net.UnixListener, error) {
	path := filepath.Join(dir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

func dial(dir string) (*net.UnixConn, error) {
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(dir, socketName), Net: "unix"})
}

// Take gets the socket that the keeper of a run directory has; nil if there is no keeper.
func Take(dir string) (*os.File, error) {
	conn, err := dial(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask the keeper: %w", err)
	}
	defer conn.Close()
	file, err := receive(conn)
	if err != nil {
		pid, _ := processLock.Holder(dir)
		return nil, fmt.Errorf("the keeper (pid %d) does not hand out the socket: %w: kill it, and the tables can be changed by anybody", pid, err)
	}
	return file, nil
}

// receive reads the descriptor.
func receive(conn *net.UnixConn) (*os.File, error) {
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return nil, err
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return nil, err
	}
	list, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, errors.New("no descriptor in its message")
	}
	fds, err := unix.ParseUnixRights(&list[0])
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // what waits in Go is woken by deadlines so
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "kept"), nil
}

// Keep sees to it that a keeper has the socket, until ctx ends; it leaves it behind.
// command is the command line of the process, which calls Run. One that is there has the socket
// already: Take gave it.
func Keep(ctx context.Context, dir string, command []string, socket *os.File, log *slog.Logger) {
	said := ""
	for ctx.Err() == nil {
		err := attend(ctx, dir, command, socket)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			said = ""
			log.Warn("the keeper is gone; starting another")
			continue
		}
		if err.Error() != said {
			said = err.Error()
			log.Error("no keeper: when this agent ends, anybody can change the tables; trying again", "err", err)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// attend finds or starts a keeper, and returns nil when it is gone.
func attend(ctx context.Context, dir string, command []string, socket *os.File) error {
	conn, err := dial(dir)
	if err != nil {
		if err := start(command, socket); err != nil {
			return fmt.Errorf("start the keeper: %w", err)
		}
		if conn, err = waitFor(ctx, dir); err != nil {
			return fmt.Errorf("the keeper does not answer: %w: see its log", err)
		}
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	_, _ = io.Copy(io.Discard, conn) // until the connection is lost; a descriptor that is not asked for is closed
	return nil
}

// start starts the process in a session of its own.
func start(command []string, socket *os.File) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.ExtraFiles = []*os.File{socket} // the first is Descriptor
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err := cmd.Start()
	_ = unix.SetNonblock(int(socket.Fd()), true) // Start has it wait, in all processes
	if err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	return nil
}

// waitFor dials until somebody answers.
func waitFor(ctx context.Context, dir string) (*net.UnixConn, error) {
	for limit := time.Now().Add(answerTime); ; {
		conn, err := dial(dir)
		if err == nil || time.Now().After(limit) {
			return conn, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// End ends the keeper of a run directory, and waits for that. It reports whether
// there was one.
func End(dir string) (was bool, err error) {
	pid, held := processLock.Holder(dir)
	if !held {
		return false, nil
	}
	if conn, err := dial(dir); err == nil {
		defer conn.Close()
		_, _ = conn.Write([]byte{0})
	}
	for limit := time.Now().Add(answerTime); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		if _, held := processLock.Holder(dir); !held {
			return true, nil
		}
	}
	return true, fmt.Errorf("the keeper (pid %d) does not end: kill it", pid)
}
