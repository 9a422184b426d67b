// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/node/api"
)

// memory is what a process occupies, in bytes.
type memory struct {
	RSS       int64 `json:"rss"`       // VmRSS: what the budget is about
	Peak      int64 `json:"peak"`      // VmHWM
	Anonymous int64 `json:"anonymous"` // of it, heap and stacks
	Private   int64 `json:"private"`   // of it, not shared with another process
	File      int64 `json:"file"`      // of it, pages of the program's file
}

func readMemory(pid int) (m memory, err error) {
	fields := map[string]*int64{
		"VmRSS": &m.RSS, "VmHWM": &m.Peak, "RssFile": &m.File, "Anonymous": &m.Anonymous, "Private_Clean": &m.Private, "Private_Dirty": &m.Private,
	}
	for _, name := range []string{"status", "smaps_rollup"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			return m, err
		}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			if to := fields[key]; to != nil {
				kb, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
				if err != nil {
					return m, fmt.Errorf("/proc/%d/%s: %w", pid, name, err)
				}
				*to += kb << 10
			}
		}
	}
	return m, nil
}

// cpuTime is what a process has used, user and system.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything; fields 14 and 15 count from
	// before it, in ticks of 10 ms.
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(f))
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("/proc/%d/stat: no times", pid)
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}

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

// hardware is one line about this machine.
func hardware() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	var u unix.Utsname
	_ = unix.Uname(&u)
	var mem unix.Sysinfo_t
	_ = unix.Sysinfo(&mem)
	return fmt.Sprintf("%d × %s, %d GB, Linux %s, %s", runtime.NumCPU(), model,
		(uint64(mem.Totalram)*uint64(mem.Unit)+1<<29)>>30, unix.ByteSliceToString(u.Release[:]), runtime.Version())
}
