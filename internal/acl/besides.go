// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"github.com/google/nftables/expr"
	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// What workloads send from networks besides their own addresses. Two interfaces may
// then send from one address, and a connection says which addresses it is between,
// not where its packets come in: what policy has accepted for one interface would
// be accepted for the other, and the answers with it. So a packet from such a source
// belongs to a connection of its interface alone, in a zone of connection tracking,
// unless the way back leads to that interface, which it does for one of them. In a
// zone there are no answers, those come by another interface, and nothing is
// established: one who may send as both ends would have it so. What others track in
// zones comes from elsewhere, and is none of that.
const (
	chainBesides     = "antispoof-besides"
	chainEstablished = "established"
)

// besidesChains puts packets into the zone of their interface. Zones have 16 bits: the
// last of the number of the interface, which the kernel gives one after another.
func (r *renderer) besidesChains() []*chain {
	if !r.opts.AnySource {
		return nil
	}
	c := &chain{name: chainBesides}
	c.add(r.rule().reversePath().accept().done("the way back"))
	c.add(r.rule().ctZoneOfInterface().accept().done("a flow of the interface"))
	known := &chain{name: chainEstablished}
	for _, p := range r.opts.Prefixes {
		known.add(r.rule().prefixed(expr.MetaKeyIIFNAME, p).ctZone().ret().done("a flow of an interface"))
	}
	known.add(established(r.rule()).accept().done(""))
	return []*chain{c, known}
}

// besidesAnswers drops what poses as an answer to a flow of an interface.
func (r *renderer) besidesAnswers(c *chain) {
	for _, p := range r.opts.Prefixes {
		if r.opts.AnySource {
			c.add(r.rule().prefixed(expr.MetaKeyIIFNAME, p).ctReply().ctZone().drop().done("no answer comes from there"))
		}
	}
}

// acceptEstablished renders the rule that accepts packets of connections that both ends know.
func (r *renderer) acceptEstablished() *rule {
	if r.opts.AnySource {
		return r.rule().jump(chainEstablished).done("")
	}
	return established(r.rule()).accept().done("")
}

func established(b *rb) *rb { return b.ctState(ctEstablished|ctRelated, "established,related") }

// besides renders the networks that an endpoint may send from besides its own
// addresses. No route has to lead back to them: they skip the reverse path, as they
// must, being elsewhere.
func besides(e *policy.Endpoint, owner string) (out []setElem) {
	iface := ifKey(e.Interface)
	for _, f := range []*family{ipv4, ipv6} {
		set := map[*family]string{ipv4: setSources4, ipv6: setSources6}[f]
		for _, p := range mergeNets(e.Sources, f) {
			out = append(out, setElem{set, elem{key: iface + string(p.Addr().AsSlice()), last: iface + string(lastOf(p)), owner: owner}})
		}
	}
	return out
}

// ctZone matches packets of connections in a zone.
func (r *rb) ctZone() *rb {
	r.expr("ct", func(b *buf) {
		b.u32(unix.NFTA_CT_DREG, reg1)
		b.u32(unix.NFTA_CT_KEY, uint32(expr.CtKeyZONE))
	})
	r.cmp(expr.CmpOpNeq, []byte{0, 0})
	return r.say("ct zone != 0")
}

// ctZoneOfInterface has connection tracking look for the packet in a zone.
func (r *rb) ctZoneOfInterface() *rb {
	r.load(expr.MetaKeyIIF, reg1)
	r.expr("ct", func(b *buf) {
		b.u32(unix.NFTA_CT_KEY, uint32(expr.CtKeyZONE))
		b.u32(unix.NFTA_CT_SREG, reg1)
	})
	return r.say("ct zone set iif")
}
