// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"github.com/google/nftables/expr"
	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// Nearly all that a workload sends is TCP or UDP under its own addresses: one
// lookup of interface, MAC address, source and protocol tells that, where the long way
// asks for each by itself. What is found here has still to come from where it is routed
// to, and to go to no port that workloads may not send to; whatever fails goes the
// long way, which says why. So nothing passes here that would not pass there, and
// to do without this page would cost packets nothing but time.
const (
	chainOwnAny = "antispoof-own-any" // where the MAC address is perhaps not known

	setOwn4    = "own4" // interface . its MAC address . its address . protocol
	setOwn6    = "own6"
	setOwnAny4 = "own4-any" // interface whose MAC address is not known . its address . protocol
	setOwnAny6 = "own6-any"
)

var (
	setIfOwn4    = &setType{0, concat(typeIfname, typeEther, typeIPv4, typeProto), 32, 0, "ifname . ether_addr . ipv4_addr . inet_proto", 0}
	setIfOwn6    = &setType{0, concat(typeIfname, typeEther, typeIPv6, typeProto), 44, 0, "ifname . ether_addr . ipv6_addr . inet_proto", 0}
	setIfOwnAny4 = &setType{0, concat(typeIfname, typeIPv4, typeProto), 24, 0, "ifname . ipv4_addr . inet_proto", 0}
	setIfOwnAny6 = &setType{0, concat(typeIfname, typeIPv6, typeProto), 36, 0, "ifname . ipv6_addr . inet_proto", 0}
)

// ownProtocols are those that are told by a lookup. What has no ports, but the octets of a
// refused one in their place, goes the long way; what has extension headers is no such
// protocol by its first header.
var ownProtocols = []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP}

func ownSets() []*set {
	return []*set{
		{name: setOwn4, typ: setIfOwn4, static: true, comment: "MAC and IPv4 addresses"},
		{name: setOwn6, typ: setIfOwn6, static: true, comment: "MAC and IPv6 addresses"},
		{name: setOwnAny4, typ: setIfOwnAny4, static: true, comment: "IPv4 addresses, where the MAC address is not known"},
		{name: setOwnAny6, typ: setIfOwnAny6, static: true, comment: "IPv6 addresses, where the MAC address is not known"},
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
			c.add(r.plain(r.rule().version(f).own(f, prefix)))
		}
	}
}

// own matches (input interface, source of the frame, source address, protocol) in the
// set of such. What comes from elsewhere than from workloads is not looked up.
func (r *rb) own(f *family, prefix string) *rb {
	r.load(expr.MetaKeyIIFNAME, reg1)
	r.cmp(expr.CmpOpEq, []byte(prefix))
	r.payload(expr.PayloadBaseLLHeader, 6, 6, reg2)
	r.ownFrom(f, 6)
	r.in(f.own(true), false)
	return r.say("iifname \"%s*\" . ether saddr . %s saddr . %s %s @%s", prefix, f.word, f.word, f.nextWord, f.own(true))
}

// ownAny matches (input interface, source address, protocol).
func (r *rb) ownAny(f *family) *rb {
	r.load(expr.MetaKeyIIFNAME, reg1)
	r.ownFrom(f, 4)
	r.in(f.own(false), false)
	return r.say("iifname . %s saddr . %s %s @%s", f.word, f.word, f.nextWord, f.own(false))
}

// ownFrom loads the source address, at a number of four bytes from the first register, and
// behind it the protocol that the header names.
func (r *rb) ownFrom(f *family, at uint32) {
	r.payload(expr.PayloadBaseNetworkHeader, f.src, f.bytes, register(at))
	r.payload(expr.PayloadBaseNetworkHeader, f.next, 1, register(at+f.bytes/4))
}

// plain ends a rule that accepts what goes to no port that is refused and comes from
// where it is routed to.
func (r *renderer) plain(b *rb) *rule {
	b.portsNot(destination, r.opts.refusedPorts())
	if !r.opts.withoutRPF {
		b.reversePath()
	}
	return b.accept().done("")
}

func (r *renderer) ownChains() []*chain {
	unknown := &chain{name: chainOwnAny}
	for _, f := range families {
		if !r.opts.withoutSources {
			unknown.add(r.plain(r.rule().version(f).ownAny(f)))
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
			for _, proto := range ownProtocols {
				add(familyOf(a).own(e.HasMAC), sender+string(a.AsSlice())+string([]byte{proto, 0, 0, 0}), "")
			}
		}
	}
}
