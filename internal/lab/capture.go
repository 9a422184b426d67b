// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Capture records the frames of one link. The kernel keeps up to a few
// thousand of them until they are read. It is not safe for concurrent use.
type Capture struct {
	ns   *Namespace
	link string
	file *os.File
}

// captureBuffer is the kernel's room for frames not read yet, in bytes.
const captureBuffer = 16 << 20

// Capture starts to record a link: everything that arrives or leaves from now
// on. Close it.
func (n *Namespace) Capture(link string) (*Capture, error) {
	idx, err := n.LinkIndex(link)
	if err != nil {
		return nil, err
	}
	c := &Capture{ns: n, link: link}
	err = n.Do(func() error {
		// Protocol 0 until bound: frames of other links must not slip in.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer) // smaller is fine too
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: idx}); err != nil {
			unix.Close(fd)
			return err
		}
		c.file = os.NewFile(uintptr(fd), "capture "+link)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: capture on %s: %w", n.name, link, err)
	}
	return c, nil
}

// Next returns the next frame for which match is true, or ctx's error. A nil
// match takes every frame.
func (c *Capture) Next(ctx context.Context, match func(Frame) bool) (Frame, error) {
	if err := c.file.SetReadDeadline(time.Time{}); err != nil {
		return Frame{}, err
	}
	defer context.AfterFunc(ctx, func() { c.file.SetReadDeadline(time.Unix(1, 0)) })()
	for {
		f, err := c.read()
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
			err = ctx.Err()
		}
		if err != nil {
			return Frame{}, fmt.Errorf("%s: capture on %s: %w", c.ns.name, c.link, err)
		}
		if match == nil || match(f) {
			return f, nil
		}
	}
}

// Drain returns all frames recorded so far for which match is true, without
// waiting.
func (c *Capture) Drain(match func(Frame) bool) ([]Frame, error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	var out []Frame
	for {
		var f Frame
		var rerr error
		if err := raw.Control(func(fd uintptr) { f, rerr = receive(int(fd)) }); err != nil {
			return out, err
		}
		if errors.Is(rerr, unix.EAGAIN) {
			return out, nil
		}
		if rerr != nil {
			return out, rerr
		}
		if match == nil || match(f) {
			out = append(out, f)
		}
	}
}

// Close ends the capture.
func (c *Capture) Close() error { return c.file.Close() }

func (c *Capture) read() (Frame, error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return Frame{}, err
	}
	var f Frame
	var rerr error
	err = raw.Read(func(fd uintptr) bool {
		f, rerr = receive(int(fd))
		return !errors.Is(rerr, unix.EAGAIN)
	})
	return f, errors.Join(err, rerr)
}

func receive(fd int) (Frame, error) {
	buf := make([]byte, 65536)
	k, from, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return Frame{}, err
	}
	f := Decode(slices.Clone(buf[:k]))
	if ll, ok := from.(*unix.SockaddrLinklayer); ok {
		f.Outgoing = ll.Pkttype == unix.PACKET_OUTGOING
	}
	return f, nil
}
