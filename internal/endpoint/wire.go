// SPDX-License-Identifier: Apache-2.0

//go:build linux

package endpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
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
	m := nl.NewIfAddrmsg(unix.AF_UNSPEC)
	m.Index = uint32(index)
	msgs, err := w.dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, m)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []address
	for _, b := range msgs {
		if a, ok := parseAddr(b); ok {
			out = append(out, a)
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

// addAddr adds an address of ours with link scope, unless it is there; an IPv6
// one without duplicate address detection.
func (w *wire) addAddr(index int, p netip.Prefix) change {
	r := w.request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m := newAddrMsg(index, p)
	m.Scope = unix.RT_SCOPE_LINK
	if p.Addr().Is6() {
		m.Flags = unix.IFA_F_NODAD
	}
	r.AddData(m)
	addAddrData(r, p)
	r.AddData(nl.NewRtAttr(ifaProto, []byte{ownProtocol}))
	return change{r, fmt.Sprintf("add address %s", p), unix.EEXIST}
}

// delAddr removes an address, unless it is gone already.
func (w *wire) delAddr(index int, p netip.Prefix) change {
	r := w.request(unix.RTM_DELADDR, 0)
	r.AddData(newAddrMsg(index, p))
	addAddrData(r, p)
	return change{r, fmt.Sprintf("remove address %s", p), unix.EADDRNOTAVAIL}
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
func (w *wire) setNeighbour(index int, a netip.Addr, mac [6]byte) change {
	r := w.request(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	r.AddData(&netlink.Ndmsg{Family: uint8(familyOf(a)), Index: uint32(index), State: unix.NUD_PERMANENT})
	r.AddData(nl.NewRtAttr(unix.NDA_DST, a.AsSlice()))
	r.AddData(nl.NewRtAttr(unix.NDA_LLADDR, mac[:]))
	r.AddData(nl.NewRtAttr(ndaProtocol, []byte{ownProtocol}))
	return change{r, fmt.Sprintf("set neighbour %s", a), 0}
}

// delNeighbour removes an entry, unless it is gone already.
func (w *wire) delNeighbour(index int, a netip.Addr) change {
	r := w.request(unix.RTM_DELNEIGH, 0)
	r.AddData(&netlink.Ndmsg{Family: uint8(familyOf(a)), Index: uint32(index)})
	r.AddData(nl.NewRtAttr(unix.NDA_DST, a.AsSlice()))
	return change{r, fmt.Sprintf("remove neighbour %s", a), unix.ENOENT}
}

// change is one message that writes.
type change struct {
	*nl.NetlinkRequest
	what string     // it does, for errors
	fine unix.Errno // what is refused with this is so already
}

// atOnce is how many changes go into one system call. What the kernel says of each
// fits into a socket's buffer.
const atOnce = 128

// write makes changes, one after the other. It goes on after one that is refused, and
// joins what was.
func (w *wire) write(changes ...change) error {
	var errs []error
	for part := range slices.Chunk(changes, atOnce) {
		errs = append(errs, w.writeAtOnce(part))
	}
	return errors.Join(errs...)
}

// writeAtOnce has the kernel answer the last message, and those that it refuses.
func (w *wire) writeAtOnce(changes []change) error {
	w.sock.Socket.Lock()
	defer w.sock.Socket.Unlock()
	var batch []byte
	last := len(changes) - 1
	changes[last].Flags |= unix.NLM_F_ACK
	for _, c := range changes {
		c.Seq = atomic.AddUint32(&w.sock.Seq, 1)
		batch = append(batch, c.Serialize()...)
	}
	if err := unix.Sendto(w.sock.Socket.GetFd(), batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	var errs []error
	for {
		msgs, from, err := w.sock.Socket.Receive()
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("netlink: %w", err))...)
		}
		for _, m := range msgs {
			i := int(int32(m.Header.Seq - changes[0].Seq))
			if from.Pid != nl.PidKernel || m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 || i < 0 || i > last {
				continue // what somebody gave up to wait for
			}
			errno := unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
			if errno != 0 && errno != changes[i].fine {
				errs = append(errs, fmt.Errorf("%s: %w", changes[i].what, errno))
			}
			if i == last {
				return errors.Join(errs...)
			}
		}
	}
}

// gone tells whether an error means that the interface is not there any more.
func gone(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.As(err, &none) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ENXIO)
}
