// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

// ways tells by which interfaces flows go, which connection tracking does not
// know and host endpoints are found by: an end is where the route to it leads.
type ways struct {
	asks   bool // there are host endpoints,
	byName bool // and more than the one for all interfaces
	device map[netip.Addr]string
}

// everyWay stands for an interface while one host endpoint is for all.
const everyWay = "*"

// ways begins a review.
func (l *loop) ways() *ways {
	w := &ways{device: map[netip.Addr]string{}}
	for h := range l.model.index.Hosts() {
		w.asks = true
		w.byName = w.byName || !h.Rest || len(h.Interfaces) > 0
	}
	return w
}

// learn asks the kernel for the ways of flows, each end once.
func (w *ways) learn(flows []acl.Flow, host map[netip.Addr]bool) {
	if !w.byName {
		return
	}
	for i := range flows {
		for _, a := range []netip.Addr{flows[i].Src, flows[i].Dst} {
			if _, known := w.device[a]; known || host[a] {
				continue
			}
			if way, err := wayOf(route.Query{Dst: a}); err == nil && way.Refused == "" && !way.Local {
				w.device[a] = way.Device
			} else {
				w.device[a] = ""
			}
		}
	}
}

// to is the interface towards an address, empty if nobody knows.
func (w *ways) to(a netip.Addr) string {
	switch {
	case a.IsMulticast(), a.IsLinkLocalUnicast(), a.IsUnspecified():
		return ""
	case w.byName:
		return w.device[a]
	}
	return everyWay
}

// passage is the way of a flow through this server, between these endpoints as far as
// they are here; not ok if nobody asks, or nobody knows.
func (l *loop) passage(f *acl.Flow, from, to *policy.Endpoint, host map[netip.Addr]bool, w *ways) (via policy.Passage, ok bool) {
	if !w.asks {
		return via, false
	}
	end := func(a netip.Addr, e *policy.Endpoint) (iface string, workload, ok bool) {
		switch {
		case host[a]:
			return "", false, true
		case e != nil && e.Process:
			via.Process = true
			return "", false, true
		case e != nil:
			return e.Interface, true, true
		}
		iface = w.to(a)
		return iface, isWorkload(l.settings.prefixes, iface), iface != ""
	}
	var in, out bool
	via.In, via.FromWorkload, in = end(f.Src, from)
	via.Out, via.ToWorkload, out = end(f.Dst, to)
	if via.In == "" && via.Out == "" {
		via.Out = policy.Loopback
	}
	return via, in && out
}

// deniedByHosts tells whether host endpoints have come to deny a flow. A TCP flow
// that was taken up in its middle may be the wrong way round (nf_conntrack_tcp_loose):
// what has a failsafe port at either end stays.
func (l *loop) deniedByHosts(f *acl.Flow, via policy.Passage) bool {
	open := l.settings.failsafes
	switch {
	case f.Proto != unix.IPPROTO_TCP:
	case via.In == "" && policy.IsFailsafe(open[policy.Ingress], f.Proto, f.SrcPort, f.Dst),
		via.Out == "" && policy.IsFailsafe(open[policy.Egress], f.Proto, f.SrcPort, f.Src):
		return false
	}
	r := l.model.index.JudgePassage(via, &f.Packet, &f.Before, open)
	return !r.Allowed && !r.KeepsEstablished()
}
