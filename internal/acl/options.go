// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/policy"
)

// TableName is the name of our tables, one of each family in tables. No other is
// touched.
const TableName = "muslin"

// HostAction is what happens to traffic from a workload to its host that the
// workload's egress policy allows.
type HostAction uint8

// The host actions. HostReturn leaves the packet to other tables, as an
// accept in ours does: the two are the same here.
const (
	HostDrop HostAction = iota
	HostAccept
	HostReturn
)

// Options configure a Table.
type Options struct {
	Log        *slog.Logger // required
	Prefixes   []string     // names of workload interfaces start with one of these; required
	HostAction HostAction
	// Speakers are the interfaces of workloads that this host speaks BGP with:
	// they may connect to SpeakerPort, and send from where a route leads to them.
	Speakers    []string
	SpeakerPort uint16
	// Enslaved are the interfaces that are ports of a bridge or the like, which forwards
	// for them and asks no policy: those of endpoints are closed, both ways.
	Enslaved []string
	// Encapsulated packets that workloads may send: VXLAN, by its port (default
	// 4789), and IPv4 or IPv6 in IP.
	AllowVXLAN, AllowIPIP bool
	VXLANPort             uint16
	NAT                   NAT
	// AnySource lets endpoints send from their Sources; without it these count for
	// nothing.
	AnySource bool
	Floating  Floating
	// Processes: there are endpoints of processes of this host. Leaving are addresses
	// of such that are gone, which could not be taken off lo yet: nothing passes to or
	// from them.
	Processes bool
	Leaving   []netip.Addr
	OpenStack OpenStack
	// Failsafes are the ports that host endpoints leave open, by direction.
	Failsafes [2][]policy.Failsafe
	// LogPrefix begins what rules that log write, default "calico-packet": %t is
	// the tier of the policy, %k its kind in short, %n its name, %p the name after the
	// namespace. LogLimit bounds each of these rules.
	LogPrefix string
	LogLimit  Rate
	Denied    Rate // at which denied packets are logged, see DeniedLog
	NetNS     int  // file descriptor of the network namespace; 0 for that of the calling thread
	// Own lets nobody else change the tables, where the kernel can: they belong to the
	// Table's socket (see Table.Socket), and stay when that is gone. Socket is one of an
	// earlier Table, which may have tables; the Table closes it. nil opens a new one.
	Own    bool
	Socket *os.File

	withoutRPF, withoutSources bool // tests take one layer away to try the other
}

func (o *Options) check() error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.LogPrefix == "" {
		o.LogPrefix = "calico-packet"
	}
	if len(o.LogPrefix) > 120 {
		return fmt.Errorf("log prefix of %d characters: at most 120", len(o.LogPrefix))
	}
	if o.VXLANPort == 0 {
		o.VXLANPort = defaultVXLANPort
	}
	if len(o.Prefixes) == 0 {
		return errors.New("interface prefix: at least one is needed")
	}
	for _, p := range o.Prefixes {
		if p == "" || len(p) > 15 || strings.ContainsAny(p, "/ *") {
			return fmt.Errorf("interface prefix %q: must be 1 to 15 characters without space, slash or asterisk", p)
		}
	}
	o.Prefixes = slices.Clone(o.Prefixes)
	slices.Sort(o.Prefixes)
	return nil
}

// Rate is so many packets in a unit of time, and so many at once after a pause.
// The zero value is none.
type Rate struct {
	Packets uint32
	Unit    time.Duration // a second, a minute, an hour or a day
	Burst   uint32
}

// NAT is what leaves the pools under another address: Outgoing are the networks
// whose packets take an address of this host, unless they go to one of Spared, which
// hold all pools. Of the zero value there is not a rule.
type NAT struct {
	Outgoing, Spared []netip.Prefix
	Address          netip.Addr // what they take instead, in its family
}

// OpenStack is what virtual machines may ask of their host whatever policy says:
// DHCP and DNS if it is active, and Metadata, if that is valid, as 169.254.169.254.
type OpenStack struct {
	Active   bool
	Metadata netip.AddrPort // IPv4
}

const metadataPort = 80

const dhcpClient, dhcpServer, dhcp6Client, dhcp6Server, dnsPort = 68, 67, 546, 547, 53 // RFC 2131, RFC 8415

var metadataAddr = netip.AddrFrom4([4]byte{169, 254, 169, 254})

// Excepted tells why a packet from a workload to its host passes whatever policy says;
// it is empty if it does not. It is what the rules for OpenStack say, told once more
// without a kernel. The packet is as it came in, before any translation, and toHost is
// where it goes after that.
func (o *Options) Excepted(p policy.Packet, toHost bool) string {
	udp := func(from, to uint16) bool {
		return p.Proto == protoUDP && p.DstPort == to && (from == 0 || p.SrcPort == from)
	}
	onLink := toHost || p.Dst.IsMulticast() || p.Dst == netip.AddrFrom4([4]byte{255, 255, 255, 255})
	switch {
	case !o.OpenStack.Active:
	case p.Dst == metadataAddr && p.Proto == protoTCP && p.DstPort == metadataPort && o.OpenStack.Metadata.IsValid() && (toHost || o.OpenStack.Metadata.Addr().IsLoopback()):
		return fmt.Sprintf("metadata of OpenStack's machines: it goes to port %d of this host", o.OpenStack.Metadata.Port())
	case onLink && p.Dst.Is4() && udp(dhcpClient, dhcpServer), onLink && p.Dst.Is6() && udp(dhcp6Client, dhcp6Server):
		return "DHCP of OpenStack's machines"
	case onLink && udp(0, dnsPort):
		return "DNS of OpenStack's machines"
	}
	return ""
}

// Floating says whose floating IPs lead to them.
type Floating uint8

// NoFloating are none, of which there is not a rule; OpenStackFloating those of
// OpenStack's endpoints, AllFloating all.
const (
	NoFloating Floating = iota
	OpenStackFloating
	AllFloating
)

func (o *Options) refusedPorts() []uint16 {
	if o.AllowVXLAN {
		return clientPorts
	}
	return append(slices.Clone(clientPorts), o.VXLANPort)
}

// Refused tells why a packet from a workload is dropped because of what kind it
// is, in the words of the one who asks; it is empty if it is not. It is what
// the rules of chainKinds say, told once more without a kernel.
func (o *Options) Refused(p policy.Packet) string {
	icmp, word := byte(protoICMPv6), "icmpv6"
	if p.Src.Is4() {
		icmp, word = protoICMP, "icmp"
	}
	switch {
	case p.Proto == protoUDP && slices.Contains(clientPorts, p.DstPort):
		return fmt.Sprintf("udp %d is what DHCP servers send to: a workload is none", p.DstPort)
	case p.Proto == protoUDP && p.DstPort == o.VXLANPort && !o.AllowVXLAN:
		return fmt.Sprintf("udp %d is VXLAN: allowVXLANPacketsFromWorkloads is false", p.DstPort)
	case (p.Proto == protoIPIP || p.Proto == protoIPv6) && !o.AllowIPIP:
		return fmt.Sprintf("protocol %d is IP in IP: allowIPIPPacketsFromWorkloads is false", p.Proto)
	case p.Proto == icmp && slices.Contains(leading[icmp], p.ICMPType):
		return fmt.Sprintf("%s type %d leads others: a workload is no router", word, p.ICMPType)
	}
	return ""
}

// clientPorts are those on which DHCP (RFC 2131) and DHCPv6 (RFC 8415) clients
// listen: only servers send there.
var clientPorts = []uint16{dhcpClient, dhcp6Client}

// leading are the ICMP types by which hosts are led: redirect and router
// advertisement (RFC 792, RFC 1256), and of ICMPv6 multicast listener query,
// router advertisement, redirect and router renumbering (RFC 2710, RFC 4861,
// RFC 2894).
var leading = map[byte][]byte{protoICMP: {5, 9}, protoICMPv6: {130, 134, 137, 138}}

// What neighbour discovery goes to, beside addresses of the host.
var (
	onLink    = netip.MustParsePrefix("fe80::/10")
	multicast = netip.MustParsePrefix("ff00::/8")
)

// neighbourTypes are the ICMPv6 types accepted towards the host: multicast
// listener reports, router and neighbour solicitations and neighbour
// advertisements (RFC 2710, RFC 4861).
var neighbourTypes = []byte{131, 132, routerSolicitation, neighbourSolicits, neighbourAdvertisement}

const (
	routerSolicitation     = 133 // RFC 4861 section 4
	neighbourSolicits      = 135
	neighbourAdvertisement = 136
)

// discovers tells whether a packet from a workload to its host passes whatever policy
// says, because nothing works on the link without it.
func discovers(p policy.Packet) bool {
	return p.Proto == protoICMPv6 && slices.Contains(neighbourTypes, p.ICMPType) && (onLink.Contains(p.Dst) || multicast.Contains(p.Dst))
}

const (
	protoIPIP, protoIPv6 = unix.IPPROTO_IPIP, unix.IPPROTO_IPV6

	defaultVXLANPort = 4789 // RFC 7348 section 8
)
