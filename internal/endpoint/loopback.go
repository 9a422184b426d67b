// SPDX-License-Identifier: Apache-2.0

//go:build linux

package endpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const loopback = "lo"

// SyncLoopback takes the addresses of ours off lo, in the network namespace of the caller,
// that are not to stay, adds those that are missing of add, and returns how many it wrote.
// With an error, left are those that are to go and were seen to be still there.
// Addresses of others there are left alone, and one that is wanted serves whoever put it
// there.
//
// They are for who binds to them: of IPv4 with host scope and of IPv6 deprecated, so
// that the kernel gives them to nobody who does not ask (RFC 6724 section 5, rule 3).
func SyncLoopback(stay, add []netip.Addr) (writes int, left []netip.Addr, err error) {
	w, err := openWire()
	if err != nil {
		return 0, nil, err
	}
	defer w.close()
	lo, err := w.handle.LinkByName(loopback)
	if err != nil {
		return 0, nil, fmt.Errorf("%s: %w", loopback, err)
	}
	index := lo.Attrs().Index
	have, err := w.addrs(index)
	if err != nil {
		return 0, nil, err
	}
	var errs []error
	there := map[netip.Addr]bool{}
	for _, a := range have {
		ip := a.prefix.Addr()
		if a.proto == ownProtocol && !slices.Contains(stay, ip) {
			writes++
			if err := w.write(w.delAddr(index, a.prefix)); err != nil {
				left, errs = append(left, ip), append(errs, err)
			}
			continue
		}
		there[ip] = true
	}
	for _, ip := range add {
		if there[ip] {
			continue
		}
		writes++
		errs = append(errs, w.write(w.addLoopback(index, ip)))
	}
	if len(add) > 0 && lo.Attrs().RawFlags&unix.IFF_UP == 0 {
		writes++
		errs = append(errs, w.handle.LinkSetUp(lo))
	}
	return writes, left, errors.Join(errs...)
}

// addLoopback adds an address of ours to lo, unless it is there.
func (w *wire) addLoopback(index int, ip netip.Addr) change {
	p := netip.PrefixFrom(ip, ip.BitLen())
	r := w.request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m := newAddrMsg(index, p)
	m.Scope = unix.RT_SCOPE_HOST
	r.AddData(m)
	addAddrData(r, p)
	r.AddData(nl.NewRtAttr(ifaProto, []byte{ownProtocol}))
	if ip.Is6() {
		m.Flags = unix.IFA_F_NODAD
		lifetime := make([]byte, 16) // struct ifa_cacheinfo: preferred never, valid for ever
		binary.NativeEndian.PutUint32(lifetime[4:], ^uint32(0))
		r.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, lifetime))
	}
	return change{r, fmt.Sprintf("add address %s to %s", p, loopback), unix.EEXIST}
}
