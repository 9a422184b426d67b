// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"github.com/google/nftables/expr"
	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// Nearly all that a workload sends is TCP or UDP under its own addresses: one
// lookup of interface, MAC address and source tells that, where the long way asks
// for each by itself. What is found here has still to come from where it is routed
// to, and to be of no kind that workloads may not send; whatever fails goes the
// long way, which says why. So nothing passes here that would not pass there, and
// to do without this page would cost packets nothing but time.
const (
	chainOwnAny = "antispoof-own-any" // where the MAC address is perhaps not known

	setOwn4    = "own4" // interface . its MAC address . its address
	setOwn6    = "own6"
	setOwnAny4 = "own4-any" // interface whose MAC address is not known . its address
	setOwnAny6 = "own6-any"
)

var (
	setIfOwn4 = &setType{0, concat(typeIfname, typeEther, typeIPv4), 28, 0, "ifname . ether_addr . ipv4_addr", 0}
	setIfOwn6 = &setType{0, concat(typeIfname, typeEther, typeIPv6), 40, 0, "ifname . ether_addr . ipv6_addr", 0}
)

func ownSets() []*set {
	return []*set{
		{name: setOwn4, typ: setIfOwn4, static: true, comment: "MAC and IPv4 addresses"},
		{name: setOwn6, typ: setIfOwn6, static: true, comment: "MAC and IPv6 addresses"},
		{name: setOwnAny4, typ: setIfIPv4, static: true, comment: "IPv4 addresses, where the MAC address is not known"},
		{name: setOwnAny6, typ: setIfIPv6, static: true, comment: "IPv6 addresses, where the MAC address is not known"},
	}
}

// own is the name of the set of what a family's packets from workloads come from.
func (f *family) own(mac bool) string {
	switch {
	case f == ipv4 && mac:
		return setOwn4
	case f == ipv4:
		return setOwnAny4
	case mac:
		return setOwn6
	}
	return setOwnAny6
}

// ownSources begins the base chain for antispoofing.
func (r *renderer) ownSources(c *chain) {
	if r.opts.withoutSources {
		return
	}
	for _, f := range families {
		for _, prefix := range r.opts.Prefixes {
			c.add(r.plain(r.rule().version(f).own(f, prefix), f))
		}
	}
}

// own matches (input interface, source of the frame, source address) in the set
// of such. What comes from elsewhere than from workloads is not looked up.
func (r *rb) own(f *family, prefix string) *rb {
	r.load(expr.MetaKeyIIFNAME, reg1)
	r.cmp(expr.CmpOpEq, []byte(prefix))
	r.payload(expr.PayloadBaseLLHeader, 6, 6, reg2)
	r.payload(expr.PayloadBaseNetworkHeader, f.src, f.bytes, unix.NFT_REG32_06)
	r.in(f.own(true), false)
	return r.say("iifname \"%s*\" . ether saddr . %s saddr @%s", prefix, f.word, f.own(true))
}

// plain ends a rule that accepts what is of a kind that workloads may send and comes
// from where it is routed to. Of the protocols that are looked at closer only UDP has a
// number between these two, and ports; what has none but the same octets there goes the long way.
func (r *renderer) plain(b *rb, f *family) *rule {
	b.protoBetween(f, protoIPIP+1, protoIPv6-1).portsNot(destination, r.opts.refusedPorts())
	if !r.opts.withoutRPF {
		b.reversePath()
	}
	return b.accept().done("")
}

func (r *renderer) ownChains() []*chain {
	unknown := &chain{name: chainOwnAny}
	for _, f := range families {
		if !r.opts.withoutSources {
			unknown.add(r.plain(r.rule().version(f).iifAnd(expr.PayloadBaseNetworkHeader, f.src, f.bytes, f.word+" saddr", f.own(false)), f))
		}
	}
	unknown.add(r.rule().goTo(chainAntispoofWl).done("the long way"))
	return []*chain{unknown}
}

// ownAddresses renders the elements for what an endpoint sends from.
func ownAddresses(e *policy.Endpoint, add func(set, key, target string)) {
	senders := []string{ifKey(e.Interface)}
	if e.HasMAC {
		senders = nil
		for _, mac := range e.AllMACs() {
			senders = append(senders, ifKey(e.Interface)+string(mac[:])+"\x00\x00")
		}
	}
	for _, a := range e.Addrs {
		if a = a.WithZone(""); a.Is4In6() {
			continue
		}
		for _, sender := range senders {
			add(familyOf(a).own(e.HasMAC), sender+string(a.AsSlice()), "")
		}
	}
}
