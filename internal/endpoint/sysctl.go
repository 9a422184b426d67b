// SPDX-License-Identifier: Apache-2.0

//go:build linux

package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctlRoot is resolved by the kernel for the network namespace of the
// calling thread.
const sysctlRoot = "/proc/sys/net"

// setting is one value of one interface. IF stands for its name.
type setting struct {
	path, value string
	conf        int // its place in link.conf4 or conf6, counted from 1; 0 if it is not there
	// optional is set for what need not exist or work on every kernel.
	optional bool
}

func (s *setting) v6() bool { return strings.HasPrefix(s.path, "ipv6/") }

// hostSettings are in the order in which they are applied: what keeps the host
// from believing the workload comes first, and forwarding last.
var hostSettings = []setting{
	// A workload must not give the host a route or a prefix.
	{path: "ipv6/conf/IF/accept_ra", value: "0", conf: 4},
	{path: "ipv6/conf/IF/accept_redirects", value: "0", conf: 5},
	{path: "ipv4/conf/IF/accept_redirects", value: "0", conf: 4},
	// 127.0.0.0/8 of the host stays out of reach. There is nothing to be
	// answered on behalf of others: the gateway is the interface's own address.
	{path: "ipv4/conf/IF/route_localnet", value: "0", conf: 26},
	{path: "ipv4/conf/IF/proxy_arp", value: "0", conf: 3},
	{path: "ipv6/conf/IF/proxy_ndp", value: "0", conf: 23},
	{path: "ipv4/neigh/IF/proxy_delay", value: "0", optional: true},
	// Nobody else can have the gateway's address on a link of two ends, and a
	// workload that claimed it in time could otherwise disable it.
	{path: "ipv6/conf/IF/accept_dad", value: "0", conf: 28},
	{path: "ipv6/conf/IF/disable_ipv6", value: "0", conf: 27},
	// The strict reverse-path check is a rule of the packet filter, for both
	// families alike. The kernel's own is IPv4 only, counts nothing, and would
	// drop what allowSpoofedSourcePrefixes allows.
	{path: "ipv4/conf/IF/rp_filter", value: "0", conf: 8},
	{path: "ipv4/conf/IF/forwarding", value: "1", conf: 1},
	{path: "ipv6/conf/IF/forwarding", value: "1", conf: 1},
}

// containerSettings are for the workload's side. The address is ours alone, so
// waiting a second for an objection would only delay the first packet; and the
// routes come from us, not from advertisements.
var containerSettings = []setting{
	{path: "ipv6/conf/IF/accept_ra", value: "0"},
	{path: "ipv6/conf/IF/accept_dad", value: "0"},
	{path: "ipv6/conf/IF/disable_ipv6", value: "0"},
}

// apply writes the settings that differ and returns how many it wrote. The
// name has been checked by ValidName. have is what is known of the interface, nil
// if nothing is. It goes on after a failure and joins what failed. Settings of
// IPv6 do not count where the kernel has none.
func apply(list []setting, name string, have *link) (writes int, err error) {
	var errs []error
	v6 := hasIPv6()
	for i := range list {
		s := &list[i]
		if s.v6() && !v6 {
			continue
		}
		value, known := have.setting(s)
		if known && value == s.value {
			continue
		}
		write := writeSysctl
		if known {
			write = setSysctl // no need to read it again
		}
		wrote, err := write(strings.Replace(s.path, "/IF/", "/"+name+"/", 1), s.value)
		if wrote {
			writes++
		}
		if err != nil && !s.optional {
			errs = append(errs, err)
		}
	}
	return writes, errors.Join(errs...)
}

func hasIPv6() bool {
	_, err := os.Stat(filepath.Join(sysctlRoot, "ipv6"))
	return err == nil
}

// writeSysctl writes a value if it is not there already. The path is relative
// to /proc/sys/net.
func writeSysctl(path, value string) (wrote bool, err error) {
	have, err := readSysctl(path)
	if err != nil || have == value {
		return false, err
	}
	return setSysctl(path, value)
}

// setSysctl is as short as it can be: package os would have the runtime wait for
// events of the file, which wakes a thread.
func setSysctl(path, value string) (wrote bool, err error) {
	fd, err := unix.Open(sysctlRoot+"/"+path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(value))
		unix.Close(fd)
	}
	if err != nil {
		return false, fmt.Errorf("sysctl net/%s = %s: %w", path, value, err)
	}
	return true, nil
}

// readSysctl is as short as it can be: a look at one interface is mostly this.
func readSysctl(path string) (string, error) {
	fd, err := unix.Open(sysctlRoot+"/"+path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("sysctl net/%s: %w", path, err)
	}
	defer unix.Close(fd)
	var buf [64]byte // a number and a newline
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return "", fmt.Errorf("sysctl net/%s: %w", path, err)
	}
	return strings.TrimSpace(string(buf[:n])), nil
}

// ConfigureHost turns this host into a router for both families and returns
// what it changed, as "path = value", in the order of the changes. A kernel
// that forwards IPv6 ignores router advertisements unless accept_ra is 2, and
// forgets the default route it had from one; interfaces that take
// advertisements now, other than those of workloads, are therefore told to go
// on doing so, before forwarding is turned on. On a host that forwards already
// nothing is touched: what is set there is what its administrator wants.
func ConfigureHost(prefixes []string) (changed []string, err error) {
	var errs []error
	set := func(path, value string) {
		wrote, err := writeSysctl(path, value)
		if wrote {
			changed = append(changed, path+" = "+value)
		}
		errs = append(errs, err)
	}
	set("ipv4/ip_forward", "1")
	forwards, err := readSysctl("ipv6/conf/all/forwarding")
	if errors.Is(err, fs.ErrNotExist) {
		return changed, errors.Join(errs...) // no IPv6 in this kernel
	}
	if err != nil || forwards == "1" {
		return changed, errors.Join(append(errs, err)...)
	}
	dirs, err := os.ReadDir(filepath.Join(sysctlRoot, "ipv6/conf"))
	errs = append(errs, err)
	for _, d := range dirs {
		name := d.Name()
		if name == "all" || name == "default" || name == "lo" || hasPrefix(name, prefixes) {
			continue
		}
		path := "ipv6/conf/" + name + "/"
		ra, err1 := readSysctl(path + "accept_ra")
		fw, err2 := readSysctl(path + "forwarding")
		if err1 == nil && err2 == nil && ra == "1" && fw == "0" {
			set(path+"accept_ra", "2")
		}
	}
	set("ipv6/conf/all/forwarding", "1")
	return changed, errors.Join(errs...)
}
