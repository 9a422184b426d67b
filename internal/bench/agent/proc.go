// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/node/api"
)

// generation asks the kernel how many nftables transactions a namespace has
// seen, whoever made them.
func generation(ns *lab.Namespace) (gen uint32, err error) {
	err = ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		msg := make([]byte, unix.SizeofNlMsghdr+4)
		binary.NativeEndian.PutUint32(msg, uint32(len(msg)))
		binary.NativeEndian.PutUint16(msg[4:], unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN)
		binary.NativeEndian.PutUint16(msg[6:], unix.NLM_F_REQUEST)
		if err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		buf := make([]byte, 4096)
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return err
		}
		// Behind the headers the first attribute is NFTA_GEN_ID.
		at := unix.SizeofNlMsghdr + 4
		if n < at+8 || binary.NativeEndian.Uint16(buf[at+2:]) != unix.NFTA_GEN_ID {
			return fmt.Errorf("an answer of %d bytes", n)
		}
		gen = binary.BigEndian.Uint32(buf[at+4:])
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("nftables generation: %w", err)
	}
	return gen, nil
}

// listening counts the network namespaces in which somebody listens to what becomes
// of nftables. The kernel asks whether anybody does in any of them, and then makes a
// notification of each object of a commit in this one, for nobody.
func listening() (n int) {
	seen := map[string]bool{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		ns, err := os.Readlink(filepath.Join(dir, "ns/net"))
		if err != nil || seen[ns] { // it has ended, or another process has shown it
			continue
		}
		sockets, err := os.ReadFile(filepath.Join(dir, "net/netlink"))
		if err != nil {
			continue
		}
		if seen[ns] = true; listens(string(sockets)) {
			n++
		}
	}
	return n
}

// listens reads the kernel's list of the netlink sockets of a namespace: address,
// protocol, port, groups in hexadecimal, and more.
func listens(sockets string) bool {
	for line := range strings.Lines(sockets) {
		f := strings.Fields(line)
		if len(f) < 4 || f[1] != strconv.Itoa(unix.NETLINK_NETFILTER) {
			continue
		}
		if groups, err := strconv.ParseUint(f[3], 16, 32); err == nil && groups&(1<<(unix.NFNLGRP_NFTABLES-1)) != 0 {
			return true
		}
	}
	return false
}

// metrics reads the daemon's own counters.
func metrics(ctx context.Context, runDir string) (map[string]float64, error) {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(runDir, api.SocketName))
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://muslin/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	out := map[string]float64{}
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		name, value, ok := strings.Cut(in.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil && !strings.HasPrefix(name, "#") {
			out[name] = v
		}
	}
	return out, nil
}
