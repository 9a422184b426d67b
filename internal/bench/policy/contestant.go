// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/policy"
)

const nft = "/usr/sbin/nft"

// rule is one rule of those that are compared: from a network, to a port.
type rule struct {
	net  netip.Prefix
	port int
}

// rules are so many for a protocol, each with a network and a port of its own.
// The last one allows what is sent, and no other.
func rules(n, family int) []rule {
	list := make([]rule, n)
	for i := range list[:n-1] {
		bits := 20 + i%9
		a := netip.AddrFrom4([4]byte{198, byte(16 + i>>12), byte(i >> 4), byte(i << 4)})
		if family == 6 {
			bits = 56 + i%9
			a = netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, byte(i >> 12), byte(i >> 4), byte(i << 4)})
		}
		list[i] = rule{netip.PrefixFrom(a, bits).Masked(), 1024 + i%7000}
	}
	list[n-1] = rule{netip.PrefixFrom(addrFrom[family], addrFrom[family].BitLen()), port}
	return list
}

// perPolicy is how many rules a policy has at most; the data model allows 1,024.
const perPolicy = 1000

// contestant makes a stage filter what is sent.
type contestant struct {
	name    string
	filters bool // there are rules, in any number
	install func(s *stage, proto string, rules []rule) error
}

// Each is compared with the same stage while it filters nothing and tracks nothing.
var contestants = []contestant{
	{"connection tracking alone", false, tracking},
	{"by hand, rules alone", true, byHand(false)},
	{"by hand, no spoofing", true, byHand(true)},
	{"muslin", true, ours},
	{"like Felix", true, likeFelix},
}

const noFilter = "no filter"

func script(s *stage, text string) error {
	return s.host.Do(func() error {
		cmd := exec.Command(nft, "-f", "-")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %.500s", err, out)
		}
		return nil
	})
}

func tracking(s *stage, _ string, _ []rule) error {
	return script(s, `table inet tracking {
	chain forward { type filter hook forward priority 0; policy accept; ct state established accept; }
}
`)
}

// byHand is the least that filters the same, for these two workloads and one family:
// all rules in one set, and a mark for what they have accepted. It knows no policy of the
// sender, no change and no more workloads. With antispoof it has both layers against
// spoofing, and refuses the ethertypes that we do.
func byHand(antispoof bool) func(s *stage, proto string, list []rule) error {
	return func(s *stage, proto string, list []rule) error {
		f := map[int]string{4: "ip", 6: "ip6"}[s.family]
		var b strings.Builder
		say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
		say("table inet hand {\nset allowed { type ipv%d_addr . inet_proto . inet_service; flags interval; elements = {", s.family)
		for _, r := range list {
			say("%s . %s . %d,", r.net, proto, r.port)
		}
		say(`} }
	chain forward { type filter hook forward priority filter; policy drop;
		ct mark 1 accept
		%s saddr . meta l4proto . th dport @allowed counter ct mark set 1 accept
	}`, f)
		if !antispoof {
			say("}")
			return script(s, b.String())
		}
		say("set own { type ifname . ether_addr . ipv%d_addr; elements = { %s . %s . %s, %s . %s . %s } }", s.family,
			ifaceFrom, macFrom, addrFrom[s.family], ifaceTo, macTo, addrTo[s.family])
		say(`chain antispoof { type filter hook prerouting priority raw;
		iifname . ether saddr . %s saddr @own fib saddr . iif oif exists accept
		drop
	}
}
table netdev hand {`, f)
		for _, iface := range []string{ifaceFrom, ifaceTo} {
			say("chain %s { type filter hook ingress device %s priority -500; ether type { %s, arp } accept; drop; }", iface, iface, f)
		}
		say("}")
		return script(s, b.String())
	}
}

// ours goes the way of the agent, from objects to the kernel.
func ours(s *stage, proto string, list []rule) error {
	x := policy.NewIndex(node)
	for name, a := range map[string]struct {
		iface, mac string
		addrs      map[int]netip.Addr
	}{"from": {ifaceFrom, macFrom.String(), addrFrom}, "to": {ifaceTo, macTo.String(), addrTo}} {
		w := &v3.WorkloadEndpoint{Object: v3.Object{Metadata: v3.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"is": name}}}}
		w.Spec.Node, w.Spec.InterfaceName, w.Spec.MAC = node, a.iface, a.mac
		w.Spec.IPNetworks = []string{a.addrs[4].String(), a.addrs[6].String()}
		w.Spec.Profiles = []string{"open"}
		x.Set(policy.Key{Kind: "WorkloadEndpoint", Namespace: namespace, Name: name}, w, nil)
	}
	open := &v3.Profile{Spec: v3.ProfileSpec{Egress: []v3.Rule{{Action: "Allow"}}}}
	x.Set(policy.Key{Kind: "Profile", Name: "open"}, open, nil)
	protocol := v3.ProtocolName(proto)
	for i := 0; i*perPolicy < len(list); i++ {
		p := &v3.GlobalNetworkPolicy{}
		p.Spec.Selector, p.Spec.Types = "is == 'to'", []string{"Ingress"}
		for _, r := range list[i*perPolicy : min((i+1)*perPolicy, len(list))] {
			p.Spec.Ingress = append(p.Spec.Ingress, v3.Rule{Action: "Allow", Protocol: &protocol,
				Source: v3.EntityRule{Nets: []string{r.net.String()}}, Destination: v3.EntityRule{Ports: []v3.Port{v3.SinglePort(uint16(r.port))}}})
		}
		x.Set(policy.Key{Kind: "GlobalNetworkPolicy", Name: fmt.Sprintf("policy-%04d", i)}, p, nil)
	}
	tab, err := acl.Open(acl.Options{Log: slog.New(slog.DiscardHandler), Prefixes: []string{"cali"}, NetNS: int(s.fd.Fd())})
	if err != nil {
		return err
	}
	defer tab.Close()
	x.Flush()
	if err := tab.Resync(x); err != nil {
		return err
	}
	for _, p := range tab.Problems() {
		return fmt.Errorf("%s: %w", p.Object, p.Err)
	}
	return nil
}

const (
	node      = "bench"
	namespace = "default"
)

// likeFelix is what Felix makes of the same endpoints and rules in nftables
// mode: dispatch by interface, a chain for each endpoint and policy, two rules
// for each rule (a mark that says accepted, and a return), and counters.
func likeFelix(s *stage, proto string, list []rule) error {
	family := map[int]string{4: "ip", 6: "ip6"}[s.family]
	const accepted, passed, workload = "0x10000", "0x20000", "0x40000"
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	table := family + " calico"
	say("table %s {", table)
	for i := 0; i*perPolicy < len(list); i++ {
		say("chain cali-pi-%d {", i)
		for _, r := range list[i*perPolicy : min((i+1)*perPolicy, len(list))] {
			say("meta l4proto %s %s saddr %s %s dport %d counter meta mark set meta mark or %s", proto, family, r.net, proto, r.port, accepted)
			say("meta mark and %s == %s counter return", accepted, accepted)
		}
		say("}")
	}
	say("chain cali-pro-open { counter meta mark set meta mark or %s\nmeta mark and %s == %s counter return\n}", accepted, accepted, accepted)
	begin := func() {
		say("ct state established,related counter accept")
		say("ct state invalid counter drop")
		say("counter meta mark set meta mark and 0xfffcffff")
	}
	// Ingress of the receiver is the policies; everything may leave, and answers come in.
	say("chain cali-tw-to {")
	begin()
	say("counter meta mark set meta mark and 0xfffdffff")
	for i := 0; i*perPolicy < len(list); i++ {
		say("meta mark and %s == 0x0 counter jump cali-pi-%d", passed, i)
		say("meta mark and %s == %s counter return", accepted, accepted)
	}
	say("meta mark and %s == 0x0 counter drop", passed)
	say("counter drop\n}\nchain cali-tw-from {")
	begin()
	say("counter drop\n}")
	for _, end := range []string{"from", "to"} {
		say("chain cali-fw-%s {", end)
		begin()
		say("udp dport 4789 counter drop\nmeta l4proto ipencap counter drop")
		say("counter jump cali-pro-open\nmeta mark and %s == %s counter return\ncounter drop\n}", accepted, accepted)
	}
	for _, d := range []struct{ name, key, letter string }{{"from", "iifname", "f"}, {"to", "oifname", "t"}} {
		say("chain cali-%s-wl-dispatch { %s vmap { %q : goto cali-%sw-from, %q : goto cali-%sw-to }\ncounter drop\n}",
			d.name, d.key, ifaceFrom, d.letter, ifaceTo, d.letter)
	}
	say("chain cali-cidr-block { }\nchain cali-from-hep-forward { }\nchain cali-to-hep-forward { }\nchain cali-rpf-skip { }\nchain cali-from-host-endpoint { }")
	say(`chain raw-PREROUTING { type filter hook prerouting priority raw;
		counter meta mark set meta mark and 0xfff0ffff
		iifname "cali*" counter meta mark set meta mark or %s
		meta mark and %s == %s counter jump cali-rpf-skip
		meta mark and %s == %s fib saddr . mark . iif oif 0 counter drop
		meta mark and %s == 0x0 counter jump cali-from-host-endpoint
		meta mark and %s == %s counter accept
	}`, workload, workload, workload, workload, workload, workload, accepted, accepted)
	say(`chain mangle-PREROUTING { type filter hook prerouting priority mangle;
		ct state established,related counter accept
		meta mark and %s == %s counter accept
		counter jump cali-from-host-endpoint
		meta mark and %s == %s counter accept
	}`, accepted, accepted, accepted, accepted)
	say(`chain mangle-POSTROUTING { type filter hook postrouting priority mangle;
		meta mark and %s == %s counter return
		counter meta mark set meta mark and 0xfff0ffff
		ct status dnat counter jump cali-to-hep-forward
		meta mark and %s == %s counter return
	}`, accepted, accepted, accepted, accepted)
	say(`chain filter-FORWARD { type filter hook forward priority filter;
		counter meta mark set meta mark and 0xfff1ffff
		meta mark and %s == 0x0 counter jump cali-from-hep-forward
		iifname "cali*" counter jump cali-from-wl-dispatch
		oifname "cali*" counter jump cali-to-wl-dispatch
		counter jump cali-to-hep-forward
		counter jump cali-cidr-block
		meta mark and %s == %s counter accept
	}`, accepted, accepted, accepted)
	say("}")
	return script(s, b.String())
}
