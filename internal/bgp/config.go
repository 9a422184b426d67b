// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Validate checks the fields that concern every session; each error names its
// field. Peers are checked one by one, see PeerConfig.Validate.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if c.ASN == 0 || c.ASN == asTrans || c.ASN == 1<<32-1 {
		bad("ASN: %d is reserved; use 1 to 4294967294", c.ASN)
	}
	if !c.RouterID.Is4() || c.RouterID.IsUnspecified() {
		bad("RouterID: %q is not an IPv4 address", c.RouterID)
	}
	if c.NextHop4.IsValid() && !c.NextHop4.Is4() {
		bad("NextHop4: %s is not IPv4", c.NextHop4)
	}
	if c.NextHop6.IsValid() && (!c.NextHop6.Is6() || c.NextHop6.Is4In6() || c.NextHop6.IsLinkLocalUnicast()) {
		bad("NextHop6: %s is not a global IPv6 address", c.NextHop6)
	}
	if c.ClusterID.IsValid() && (!c.ClusterID.Is4() || c.ClusterID.IsUnspecified()) {
		bad("ClusterID: %s is not an IPv4 address", c.ClusterID)
	}
	return errors.Join(errs...)
}

// Validate checks one neighbour; each error names the peer and the field.
func (p PeerConfig) Validate() error {
	var errs []error
	bad := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("peer %q (%s): %s", p.Name, p.Addr, fmt.Sprintf(format, a...)))
	}
	if a := p.Addr.Addr(); !p.Addr.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() {
		bad("Addr is not an address to connect to")
	}
	if p.ASN == 0 || p.ASN == asTrans || p.ASN == 1<<32-1 {
		bad("ASN %d is reserved", p.ASN)
	}
	for _, a := range []netip.Addr{p.Addr.Addr(), p.LocalAddr} {
		if (a.Zone() != "") != isLinkLocal(a) {
			bad("%s: a link-local address, and no other, has its interface as zone", a)
		}
	}
	if p.linkLocal() && (!isLinkLocal(p.LocalAddr) || p.LocalAddr.Zone() != p.Addr.Addr().Zone()) {
		bad("Addr is link-local: LocalAddr must be ours on the same interface")
	}
	for _, a := range p.ASNs {
		if a[0] == 0 || a[1] < a[0] || a[1] == 1<<32-1 {
			bad("ASNs: %d to %d", a[0], a[1])
		}
	}
	if p.LocalAddr.IsValid() && p.LocalAddr.Is4() != p.Addr.Addr().Is4() {
		bad("LocalAddr %s is of the other family", p.LocalAddr)
	}
	if p.LocalAddr.IsValid() && p.LocalAddr == p.Addr.Addr() {
		bad("Addr is our own LocalAddr")
	}
	if n := len(p.Password.Reveal()); n > MaxPassword {
		bad("Password has %d octets, at most %d are possible", n, MaxPassword)
	}
	if p.HoldTime > 0 && p.HoldTime < minHoldTime {
		bad("HoldTime %v is illegal: use %v at least, or TimerOff", p.HoldTime, minHoldTime)
	}
	if p.Keepalive < 0 {
		bad("Keepalive %v is negative", p.Keepalive)
	}
	if int(p.Role) >= len(roleNames) {
		bad("Role %d does not exist", p.Role)
	}
	if p.AddPathSend < 0 {
		bad("AddPathSend %d is negative", p.AddPathSend)
	}
	return errors.Join(errs...)
}

// SetConfig replaces the configuration. The difference to the last one is
// computed inside: a session that it does not concern stays up, a changed
// policy or next hop is applied to the live session, and a removed peer gets
// Cease. When a field that concerns every session is invalid, nothing changes;
// an invalid peer, or the second of two with one address, is left out. Both
// are reported in the error.
func (s *Speaker) SetConfig(c Config) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("BGP configuration: %w", err)
	}
	var errs []error
	seen := make(map[netip.AddrPort]string)
	peers := make([]PeerConfig, 0, len(c.Peers))
	for _, p := range c.Peers {
		if err := p.Validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		if other, dup := seen[p.Addr]; dup {
			errs = append(errs, fmt.Errorf("peer %q (%s): Addr is also that of peer %q", p.Name, p.Addr, other))
			continue
		}
		if len(peers) == maxPeers {
			errs = append(errs, fmt.Errorf("peer %q (%s): is left out, there are %d already", p.Name, p.Addr, maxPeers))
			continue
		}
		seen[p.Addr] = p.Name
		peers = append(peers, p)
	}
	c.Peers = peers
	c.Ranges = slices.DeleteFunc(slices.Clone(c.Ranges), func(r RangeConfig) bool {
		err := r.Validate()
		errs = append(errs, err)
		return err != nil
	})
	s.post(func() { s.apply(c) })
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("BGP configuration: %w", err)
	}
	return nil
}

// families are those we have a next hop for.
func (s *Speaker) families() familySet {
	return familySet{v4: s.cfg.NextHop4.IsValid(), v6: s.cfg.NextHop6.IsValid()}
}

// familiesFor are those offered to a peer: IPv4 also to one that takes it with
// our IPv6 next hop, which between link-local addresses is there always.
func (s *Speaker) familiesFor(pc PeerConfig) familySet {
	if pc.linkLocal() {
		return familySet{v4: pc.ExtendedNextHop, v6: true}
	}
	fs := s.families()
	fs[v4] = fs[v4] || fs[v6] && pc.ExtendedNextHop
	return fs
}

// apply runs in the loop.
func (s *Speaker) apply(c Config) {
	old, wasFamilies := s.cfg, s.families()
	s.cfg, s.applying = c, true
	first := s.configured.IsZero()
	if first {
		s.configured = time.Now()
	}
	resetAll := old.RouterID != c.RouterID || wasFamilies != s.families()
	if resetAll || old.ASN != c.ASN {
		s.renamed()
	}

	known := map[netip.Addr]bool{}
	want := map[netip.AddrPort]PeerConfig{}
	for _, p := range c.Peers {
		known[p.Addr.Addr()] = true
		want[p.Addr] = p
	}
	if old.ControlPlaneOnly != c.ControlPlaneOnly {
		s.pending = prefixQueue{}
		s.repeat()
	}
	own := c.ownAddrs()
	rejudge := s.rejudgedFor(own) || old.ASN != c.ASN || old.ClusterID != c.ClusterID
	s.own = own
	var ranges []netip.Prefix
	for _, r := range c.Ranges {
		ranges = append(ranges, r.Prefixes...)
	}
	s.known.set(known, ranges)

	s.listenOn(c.Listen)
	for addr, p := range s.peers {
		if _, ok := want[addr]; !ok && !p.dynamic {
			s.removePeer(p)
		}
	}
	for _, pc := range c.Peers {
		p := s.peers[pc.Addr]
		if p == nil {
			s.addPeer(pc)
			continue
		}
		s.changePeer(p, pc, resetAll, rejudge)
	}
	s.applyRanges(resetAll, rejudge)
	if first {
		s.expect()
	}
	s.applying = false
	s.releaseEOR()
	s.checkConverged()
}

// ownAddrs are the addresses that cannot be a next hop of others.
func (c Config) ownAddrs() map[netip.Addr]bool {
	own := map[netip.Addr]bool{}
	for _, a := range append([]netip.Addr{c.NextHop4, c.NextHop6}, c.Own...) {
		if a.IsValid() {
			own[a] = true
		}
	}
	for _, l := range c.Listen {
		if !l.Addr().IsUnspecified() && !isLinkLocal(l.Addr()) {
			own[l.Addr()] = true
		}
	}
	for _, p := range c.Peers {
		if p.LocalAddr.IsValid() && !p.linkLocal() {
			own[p.LocalAddr] = true
		}
	}
	return own
}

// listenOn has just these addresses listened on, with the passwords of the configuration.
func (s *Speaker) listenOn(addrs []netip.AddrPort) {
	for addr, l := range s.listeners {
		if !slices.Contains(addrs, addr) {
			l.close()
			delete(s.listeners, addr)
		}
	}
	for _, addr := range addrs {
		if s.listeners[addr] == nil {
			s.listeners[addr] = s.listen(addr)
		}
	}
	for addr, l := range s.listeners {
		l.ask(s.passwordsFor(addr))
	}
}

// rejudgedFor tells whether what was received is judged otherwise when these are our
// own addresses. A host may have many that come and go, and are nobody's next hop.
func (s *Speaker) rejudgedFor(own map[netip.Addr]bool) bool {
	return slices.ContainsFunc(s.rib.attrs.numbered, func(a *attrs) bool { return a != nil && own[a.nextHop] != s.own[a.nextHop] })
}

// passwordsFor are the passwords that are asked for on a listening address.
func (s *Speaker) passwordsFor(addr netip.AddrPort) passwords {
	out := passwords{}
	for _, p := range s.cfg.Peers {
		a := p.Addr.Addr()
		if !p.Password.IsZero() && a.Is4() == addr.Addr().Is4() && (a.Zone() == addr.Addr().Zone() || addr.Addr().IsUnspecified()) {
			out[hostPrefix(a)] = p.Password
		}
	}
	for _, r := range s.cfg.Ranges {
		for _, p := range r.Prefixes {
			if !r.Peer.Password.IsZero() && p.Addr().Is4() == addr.Addr().Is4() {
				out[p] = r.Peer.Password
			}
		}
	}
	return out
}

// hostPrefix is an address as a network.
func hostPrefix(a netip.Addr) netip.Prefix {
	a = a.WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

// localAS is the AS number we use towards a peer.
func (s *Speaker) localAS(pc PeerConfig) uint32 {
	if pc.LocalASN != 0 {
		return pc.LocalASN
	}
	return s.cfg.ASN
}

// addPeer makes a peer, gives it a number, and starts connecting.
func (s *Speaker) addPeer(pc PeerConfig) *peer {
	slot := -1
	for i, src := range s.rib.sources {
		if !src.used {
			slot = i
			break
		}
	}
	if slot < 0 {
		slot = len(s.rib.sources)
		s.rib.sources = append(s.rib.sources, nil)
	}
	p := &peer{s: s, cfg: pc, slot: uint16(slot), localAS: s.localAS(pc)}
	p.ebgp = p.localAS != pc.ASN
	s.rib.sources[slot] = &source{used: true, ebgp: p.ebgp, client: pc.Client, addr: pc.Addr.Addr(), p: p}
	s.peers[pc.Addr] = p
	s.applyShutdown(p)
	p.connect()
	p.show(nil)
	return p
}

// removePeer ends everything of a peer: Cease, "peer de-configured" (RFC 4486).
func (s *Speaker) removePeer(p *peer) {
	p.cfg.Passive = true // nothing below may connect again
	s.stopPeer(p, ceaseDeconfigured, "removed from the configuration")
	for _, ref := range s.rib.of(p.slot) {
		s.touch(ref.prefix, s.rib.remove(ref, p.slot))
	}
	delete(s.peers, p.cfg.Addr)
	s.dynamics.news = s.dynamics.news || p.dynamic
	s.rib.sources[p.slot].used, s.rib.sources[p.slot].p = false, nil
}

// stopPeer closes what a peer has and forgets retained routes' timers.
func (s *Speaker) stopPeer(p *peer, sub uint8, why string) {
	p.retry.stop()
	p.hangUp()
	for len(p.conns) > 0 {
		s.fire(p.conns[0], evStop, &notification{code: codeCease, sub: sub, reason: why}, nil)
	}
	p.retry.stop()
	p.resting.stop()
	p.settled.stop()
	s.sweepAll(p)
	p.silent = false // it was we who ended it
	p.show(nil)
}

// changePeer applies a new configuration to an existing peer.
func (s *Speaker) changePeer(p *peer, pc PeerConfig, reset, rejudge bool) {
	old := p.cfg
	if pc.allows(old.ASN) {
		pc.ASN = old.ASN // as its OPEN said
	}
	p.cfg = pc
	reset = reset || old.ASN != pc.ASN || p.localAS != s.localAS(pc) || old.LocalAddr != pc.LocalAddr ||
		old.HoldTime != pc.HoldTime || old.Keepalive != pc.Keepalive || old.SendHold != pc.SendHold || old.TTLSecurity != pc.TTLSecurity ||
		old.Role != pc.Role || old.RoleStrict != pc.RoleStrict || old.ExtendedNextHop != pc.ExtendedNextHop || old.AddPathReceive != pc.AddPathReceive || (old.AddPathSend > 0) != (pc.AddPathSend > 0)
	s.setClient(p)
	shut := old.Shutdown != pc.Shutdown || old.ShutdownText != pc.ShutdownText
	if shut || old.MaxPrefixes != pc.MaxPrefixes || old.OverLimit != pc.OverLimit || reset {
		p.tryAgain()
	}
	if s.applyShutdown(p); pc.Shutdown && !reset {
		return
	}
	if reset {
		s.stopPeer(p, ceaseConfigChange, "the configuration of the session changed")
		p.localAS = s.localAS(pc)
		p.ebgp = p.localAS != pc.ASN
		s.rib.sources[p.slot].ebgp = p.ebgp
		p.losses, p.flaps = 0, 0
		p.connectLater()
		p.show(nil)
		return
	}
	switch {
	case old.Password.Reveal() != pc.Password.Reveal():
		s.breakOff(p, "the password changed")
	case p.est != nil && p.est.open.gr && p.est.restartTime != p.restartTime(): // to others it means nothing
		s.breakOff(p, "the restart time changed")
	}
	if policyChanged(old.Import, old.ImportID, pc.Import, pc.ImportID) || old.AllowLocalAS != pc.AllowLocalAS || rejudge {
		s.rejudge(p)
	}
	if old.MaxPrefixes != pc.MaxPrefixes && p.est != nil {
		s.refill(p.est)
	}
	if old.PassUnknown != pc.PassUnknown {
		for _, c := range p.conns {
			c.keepAll.Store(pc.PassUnknown)
		}
		p.askAgain()
	}
	p.connectLater() // if nothing keeps it from that any more
	if p.group != nil {
		s.regroup(p)
		if p.group.key.alone != 0 {
			p.group.export = pc.Export
			s.reexport(p.group)
		} else {
			p.group.export = pc.Export // equal IDs mean equal policies
		}
	}
	p.show(nil)
}

// breakOff gives up what a peer has like connections that broke, so that both ends keep
// the routes, and begins anew.
func (s *Speaker) breakOff(p *peer, why string) {
	p.hangUp()
	p.losses = 0
	for len(p.conns) > 0 {
		s.fire(p.conns[0], evTCPFail, nil, errors.New(why))
	}
	p.retry.stop()
	p.connectLater()
}

// setClient applies PeerConfig.Client: who is told what the peer sends depends
// on it.
func (s *Speaker) setClient(p *peer) {
	src := s.rib.sources[p.slot]
	if src.client == p.cfg.Client {
		return
	}
	src.client = p.cfg.Client
	for _, ref := range s.rib.of(p.slot) {
		s.touch(ref.prefix, selectionChanged)
	}
}

// policyChanged compares policies by identity: functions cannot be compared, so
// one without an ID counts as changed.
func policyChanged(a Policy, aID string, b Policy, bID string) bool {
	if a == nil && b == nil {
		return false
	}
	return (a == nil) != (b == nil) || aID != bID || aID == ""
}
