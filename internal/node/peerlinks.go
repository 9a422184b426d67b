// SPDX-License-Identifier: Apache-2.0

package node

import "net/netip"

// peerLink is the interface whose link a neighbour is on.
type peerLink struct {
	device string
	lost   bool // it does not carry, and the speaker knows
}

// tellLinks tells the speaker which of its neighbours are on a link that is lost, or is
// back, as far as that is news. Neighbours found on interfaces are no peers without their link,
// and those of the own AS may be reached another way.
func (l *loop) tellLinks() {
	if l.routes == nil {
		return
	}
	now := make(map[netip.Addr]peerLink, len(l.peerLinks))
	for _, p := range l.speakerConfig.Peers {
		a := p.Addr.Addr()
		if a.Zone() != "" || p.ASN == l.speakerConfig.ASN && p.LocalASN == 0 {
			continue
		}
		was := l.peerLinks[a]
		device, carries := l.routes.Link(a, was.device)
		if device == "" {
			continue
		}
		now[a] = peerLink{device: device, lost: !carries}
		switch {
		case !carries && !was.lost:
			l.d.speaker.LinkDown(a, "interface "+device+" is down or has no carrier")
		case carries && was.lost:
			l.d.speaker.LinkUp(a)
		}
	}
	l.peerLinks = now
}
