// SPDX-License-Identifier: Apache-2.0

//go:build linux

package endpoint

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// injectors are the two ends of the pair that Inject makes: what is sent on the
// first is redirected.
var injectors = [2]string{"muslin-probe0", "muslin-probe1"}

// Inject lets an IP packet come in on an interface of this host as if its other
// end had sent it. There is no way to hand the kernel a received packet, except
// from another interface: a pair that is made for it, and goes when it is done,
// whose outgoing packets a filter of the traffic control redirects.
func Inject(device string, src net.HardwareAddr, packet []byte) (err error) {
	into, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("interface %s: %w", device, err)
	}
	if into.Attrs().Flags&net.FlagUp == 0 {
		return fmt.Errorf("interface %s is down", device)
	}
	pair := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: injectors[1]}
	pair.Name, pair.MTU = injectors[0], 65535
	if err := netlink.LinkAdd(pair); err != nil {
		if errors.Is(err, unix.EEXIST) {
			err = errors.New("another probe is under way, or its remains are there: try again, or delete that interface")
		}
		return fmt.Errorf("make %s: %w", injectors[0], err)
	}
	defer func() {
		if lerr := netlink.LinkDel(pair); lerr != nil {
			err = errors.Join(err, fmt.Errorf("remove %s: %w", injectors[0], lerr))
		}
	}()
	for _, name := range injectors {
		// Nothing but the packet is to come from there.
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		end, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(end); err != nil {
			return err
		}
	}
	made, err := netlink.LinkByName(injectors[0])
	if err != nil {
		return err
	}
	protocol := uint16(unix.ETH_P_IP)
	if packet[0]>>4 == 6 {
		protocol = unix.ETH_P_IPV6
	}
	index := made.Attrs().Index
	if err := netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}); err != nil {
		return fmt.Errorf("traffic control (module sch_ingress is needed): %w", err)
	}
	if err := netlink.FilterAdd(&netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.HANDLE_MIN_EGRESS, Priority: 1, Protocol: protocol},
		Sel:         &netlink.TcU32Sel{Flags: netlink.TC_U32_TERMINAL, Keys: []netlink.TcU32Key{{}}},
		Actions: []netlink.Action{&netlink.MirredAction{ActionAttrs: netlink.ActionAttrs{Action: netlink.TC_ACT_STOLEN},
			MirredAction: netlink.TCA_INGRESS_REDIR, Ifindex: into.Attrs().Index}},
	}); err != nil {
		return fmt.Errorf("traffic control (modules cls_u32 and act_mirred are needed): %w", err)
	}
	return sendFrame(index, into.Attrs().HardwareAddr, src, protocol, packet)
}

// sendFrame sends a packet in an Ethernet frame.
func sendFrame(index int, dst, src net.HardwareAddr, protocol uint16, packet []byte) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	frame := make([]byte, 12, 14+len(packet))
	copy(frame, dst)
	copy(frame[6:], src)
	frame = append(append(frame, byte(protocol>>8), byte(protocol)), packet...)
	return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index, Protocol: protocol<<8 | protocol>>8})
}

// Emit sends an IP packet from this host, whatever its source is.
func Emit(packet []byte, dst net.IP) error {
	domain, to := unix.AF_INET, unix.Sockaddr(nil)
	if v4 := dst.To4(); v4 != nil {
		to = &unix.SockaddrInet4{Addr: [4]byte(v4)}
	} else {
		domain, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte(dst.To16())}
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, packet, 0, to)
}
