// SPDX-License-Identifier: Apache-2.0

//go:build linux

package endpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The protocol of addresses and neighbours that are ours. It is the number
// that our routes carry too.
const ownProtocol = 177

// Attributes newer than the constants of package unix.
const (
	ifaProto    = 11 // IFA_PROTO, Linux 5.18
	ndaProtocol = 12 // NDA_PROTOCOL, Linux 5.0

	netconfaIfindex = 1
)

// wire is a netlink socket in the namespace in which it was opened, with the
// few messages that this package needs in a form that the library does not
// have: dumps filtered in the kernel by interface, and objects marked as ours.
// It is safe for concurrent use.
type wire struct {
	handle *netlink.Handle
	sock   *nl.SocketHandle
}

func openWire() (*wire, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	s, err := nl.GetNetlinkSocketAt(-1, -1, unix.NETLINK_ROUTE)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	w := &wire{handle: h, sock: &nl.SocketHandle{Socket: s}}
	// Without strict checking the kernel ignores the interface in a dump
	// request, and each look at one interface would read them all.
	if err := unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1); err != nil {
		w.close()
		return nil, fmt.Errorf("netlink: strict checking: %w (Linux 4.20 or later is needed)", err)
	}
	return w, nil
}

func (w *wire) close() {
	w.handle.Close()
	w.sock.Close()
}

func (w *wire) request(typ, flags int) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(typ, flags)
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: w.sock}
	return r
}

// dump runs a request for a list. A list during which something changed is
// read again; the last one has to do, for the change itself is notified.
func (w *wire) dump(typ int, resType uint16, data ...nl.NetlinkRequestData) ([][]byte, error) {
	for try := 0; ; try++ {
		r := w.request(typ, unix.NLM_F_DUMP)
		for _, d := range data {
			r.AddData(d)
		}
		msgs, err := r.Execute(unix.NETLINK_ROUTE, resType)
		if !errors.Is(err, nl.ErrDumpInterrupted) {
			return msgs, err
		}
		if try == 3 {
			return msgs, nil
		}
	}
}

// address is an address of an interface, or of a message about one.
type address struct {
	index  int
	prefix netip.Prefix
	flags  uint32
	proto  uint8
}

// addrs lists the addresses of one interface, or of all if index is 0.
func (w *wire) addrs(index int) ([]address, error) {
	var out []address
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		m := nl.NewIfAddrmsg(family)
		m.Index = uint32(index)
		msgs, err := w.dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, m)
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		for _, b := range msgs {
			if a, ok := parseAddr(b); ok {
				out = append(out, a)
			}
		}
	}
	return out, nil
}

// parseAddr reads an ifaddrmsg with its attributes.
func parseAddr(b []byte) (a address, ok bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return a, false
	}
	bits := int(b[1])
	a.flags = uint32(b[2])
	a.index = int(binary.NativeEndian.Uint32(b[4:]))
	var ip netip.Addr
	for typ, v := range attributes(b[unix.SizeofIfAddrmsg:]) {
		switch typ {
		case unix.IFA_LOCAL: // on IPv4 this is the address, IFA_ADDRESS the peer's
			ip, _ = netip.AddrFromSlice(v)
		case unix.IFA_ADDRESS:
			if !ip.IsValid() {
				ip, _ = netip.AddrFromSlice(v)
			}
		case unix.IFA_FLAGS:
			if len(v) == 4 {
				a.flags = binary.NativeEndian.Uint32(v)
			}
		case ifaProto:
			if len(v) == 1 {
				a.proto = v[0]
			}
		}
	}
	a.prefix = netip.PrefixFrom(ip, bits)
	return a, ip.IsValid()
}

// attributes iterates over netlink attributes and stops at one that is cut.
func attributes(b []byte) func(yield func(typ uint16, value []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			n := int(binary.NativeEndian.Uint16(b))
			typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if n < unix.SizeofRtAttr || n > len(b) || !yield(typ, b[unix.SizeofRtAttr:n]) {
				return
			}
			b = b[min((n+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
		}
	}
}

// addAddr adds an address of ours with link scope; an IPv6 one without
// duplicate address detection.
func (w *wire) addAddr(index int, p netip.Prefix) error {
	r := w.request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	m := newAddrMsg(index, p)
	m.Scope = unix.RT_SCOPE_LINK
	if p.Addr().Is6() {
		m.Flags = unix.IFA_F_NODAD
	}
	r.AddData(m)
	addAddrData(r, p)
	r.AddData(nl.NewRtAttr(ifaProto, []byte{ownProtocol}))
	if _, err := r.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("add address %s: %w", p, err)
	}
	return nil
}

// delAddr removes an address; one that is gone already is no error.
func (w *wire) delAddr(index int, p netip.Prefix) error {
	r := w.request(unix.RTM_DELADDR, unix.NLM_F_ACK)
	r.AddData(newAddrMsg(index, p))
	addAddrData(r, p)
	if _, err := r.Execute(unix.NETLINK_ROUTE, 0); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove address %s: %w", p, err)
	}
	return nil
}

func newAddrMsg(index int, p netip.Prefix) *nl.IfAddrmsg {
	m := nl.NewIfAddrmsg(familyOf(p.Addr()))
	m.Index, m.Prefixlen = uint32(index), uint8(p.Bits())
	return m
}

func addAddrData(r *nl.NetlinkRequest, p netip.Prefix) {
	r.AddData(nl.NewRtAttr(unix.IFA_LOCAL, p.Addr().AsSlice()))
	r.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, p.Addr().AsSlice()))
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// neighbour is an entry of the neighbour table, or of a message about one.
type neighbour struct {
	index int
	addr  netip.Addr
	mac   [6]byte
	state uint16
	proto uint8
}

const sizeofNdmsg = 12

// neighbours lists the entries of one interface, or of all if index is 0.
func (w *wire) neighbours(index int) ([]neighbour, error) {
	data := []nl.NetlinkRequestData{&netlink.Ndmsg{Family: unix.AF_UNSPEC}}
	if index != 0 {
		data = append(data, nl.NewRtAttr(unix.NDA_IFINDEX, nl.Uint32Attr(uint32(index))))
	}
	msgs, err := w.dump(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, data...)
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	var out []neighbour
	for _, b := range msgs {
		if n, ok := parseNeighbour(b); ok {
			out = append(out, n)
		}
	}
	return out, nil
}

// parseNeighbour reads an ndmsg with its attributes.
func parseNeighbour(b []byte) (n neighbour, ok bool) {
	if len(b) < sizeofNdmsg {
		return n, false
	}
	n.index = int(binary.NativeEndian.Uint32(b[4:]))
	n.state = binary.NativeEndian.Uint16(b[8:])
	for typ, v := range attributes(b[sizeofNdmsg:]) {
		switch typ {
		case unix.NDA_DST:
			n.addr, _ = netip.AddrFromSlice(v)
		case unix.NDA_LLADDR:
			copy(n.mac[:], v)
		case ndaProtocol:
			if len(v) == 1 {
				n.proto = v[0]
			}
		}
	}
	return n, n.addr.IsValid()
}

// setNeighbour adds or replaces a permanent entry of ours.
func (w *wire) setNeighbour(index int, a netip.Addr, mac [6]byte) error {
	r := w.request(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	r.AddData(&netlink.Ndmsg{Family: uint8(familyOf(a)), Index: uint32(index), State: unix.NUD_PERMANENT})
	r.AddData(nl.NewRtAttr(unix.NDA_DST, a.AsSlice()))
	r.AddData(nl.NewRtAttr(unix.NDA_LLADDR, mac[:]))
	r.AddData(nl.NewRtAttr(ndaProtocol, []byte{ownProtocol}))
	if _, err := r.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("set neighbour %s: %w", a, err)
	}
	return nil
}

// delNeighbour removes an entry; one that is gone already is no error.
func (w *wire) delNeighbour(index int, a netip.Addr) error {
	r := w.request(unix.RTM_DELNEIGH, unix.NLM_F_ACK)
	r.AddData(&netlink.Ndmsg{Family: uint8(familyOf(a)), Index: uint32(index)})
	r.AddData(nl.NewRtAttr(unix.NDA_DST, a.AsSlice()))
	if _, err := r.Execute(unix.NETLINK_ROUTE, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove neighbour %s: %w", a, err)
	}
	return nil
}

// gone tells whether an error means that the interface is not there any more.
func gone(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.As(err, &none) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ENXIO)
}
