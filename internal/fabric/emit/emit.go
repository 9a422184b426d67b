// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
)

// Target is what a configuration is for.
type Target string

// The targets.
const (
	FRR     Target = "frr"
	BIRD    Target = "bird"
	GoBGP   Target = "gobgp"
	VRouter Target = "vrouter"
	// What follows was not run, and no parser of it is at hand.
	EOS   Target = "eos"
	Junos Target = "junos"
	NXOS  Target = "nxos"
	SONiC Target = "sonic"
)

// Targets lists them.
var Targets = []Target{FRR, BIRD, GoBGP, VRouter, EOS, Junos, NXOS, SONiC}

// Files are how the configurations are called.
var Files = map[Target]string{FRR: "frr.conf", BIRD: "bird.conf", GoBGP: "gobgpd.toml", VRouter: "vrouter.yaml",
	EOS: "startup-config", Junos: "junos.set", NXOS: "nxos.cfg", SONiC: "config_db.json"}

// Means tells whether a target is that of a device: of its software; any but that of vRouters for a switch; and for a
// reflector, too, what also is one without switching.
func (e *Emitter) Means(t Target, d *fabric.Device) bool {
	switch d.Role {
	case fabric.RoleToR, fabric.RoleSpine, fabric.RoleBorder:
		return t != VRouter
	case fabric.RoleReflector:
		return t == BIRD || t == GoBGP || t == e.Target(d)
	}
	return e.Target(d) == t
}

// Emitter writes the configurations of one design, for one goroutine.
type Emitter struct {
	x         *fabric.Index
	hash      string
	selectors map[end]string  // of sessions that many servers have
	reflects  map[string]bool // devices that reflect for one that is no vRouter, as far as it was asked
}

// New prepares a design.
func New(g *fabric.Design) (*Emitter, error) {
	text, err := json.Marshal(g)
	if err != nil {
		return nil, err
	}
	e := &Emitter{x: g.Index(), hash: fmt.Sprintf("%x", sha256.Sum256(text))[:12], reflects: map[string]bool{}}
	e.selectors = e.shared()
	return e, nil
}

// Target is what a device of a design is configured as, by its software.
func (e *Emitter) Target(d *fabric.Device) Target {
	switch d.Software {
	case fabric.Muslin:
		return VRouter
	case fabric.BIRD:
		return BIRD
	case fabric.GoBGP:
		return GoBGP
	}
	return FRR
}

// Device writes the configuration of a device.
func (e *Emitter) Device(d *fabric.Device, t Target) (string, error) {
	switch t {
	case FRR:
		return e.frr(d)
	case BIRD:
		return e.bird(d)
	case GoBGP:
		return e.gobgp(d)
	case VRouter:
		return e.vrouter(d)
	case EOS:
		return e.eos(d)
	case Junos:
		return e.junos(d)
	case NXOS:
		return e.nxos(d)
	case SONiC:
		return e.sonic(d)
	}
	return "", fmt.Errorf("%q: want one of %v", t, Targets)
}

// peer is one session of a device, with the members of meshes told apart.
type peer = fabric.Neighbour

// peers are all sessions of a device.
func (e *Emitter) peers(d *fabric.Device) []peer { return e.x.Neighbours(d) }

// profiles are those that a device uses, in the order of the design.
func (e *Emitter) profiles(peers []peer) []*fabric.Profile {
	var list []*fabric.Profile
	for i := range e.x.Profiles {
		p := &e.x.Profiles[i]
		if slices.ContainsFunc(peers, func(x peer) bool { return x.Profile == p }) {
			list = append(list, p)
		}
	}
	return list
}

// filters are those that profiles use, in the order of the design.
func (e *Emitter) filters(profiles []*fabric.Profile) []*fabric.Filter {
	var list []*fabric.Filter
	for i := range e.x.Filters {
		f := &e.x.Filters[i]
		if slices.ContainsFunc(profiles, func(p *fabric.Profile) bool { return p.Import == f.Name || p.Export == f.Name }) {
			list = append(list, f)
		}
	}
	return list
}

// header says what a configuration is, in the comments of its language, and on a border
// what is to be done with endpoint addresses, which no configuration here does.
func (e *Emitter) header(d *fabric.Device, mark, checked string) string {
	text := fmt.Sprintf("%s %s, %s of %s, design %s. Made by muslin fabric emit; %s.\n", mark, d.Name, d.Role, e.x.Metadata.Name, e.hash, checked)
	if d.Role != fabric.RoleBorder {
		return text
	}
	for _, p := range e.x.Pools {
		what := "private: translate what leaves from it (NAT), and do not announce it outside. Not configured here"
		if p.External == fabric.Advertise {
			what = "public: announce it outside, untranslated"
		}
		text += fmt.Sprintf("%s %s is %s.\n", mark, p.CIDR, what)
	}
	return text
}

// gives tells whether a device has a default route to give.
func gives(d *fabric.Device, family fabric.Family) bool {
	for _, o := range d.Originate {
		if o.Kind == fabric.OriginDefault && fabric.FamilyOf(o.Prefix.Addr()) == family {
			return true
		}
	}
	return false
}

// holdOf are the keepalive and hold time of a profile, in seconds.
func holdOf(p *fabric.Profile) (keepalive, hold int) {
	hold = max(3, int(time.Duration(p.Hold).Seconds()))
	return hold / 3, hold
}

// localAddress is that of a port, of the family of the peer's.
func localAddress(i *fabric.Interface, peer netip.Addr) netip.Addr {
	for _, a := range i.Addresses {
		if fabric.FamilyOf(a.Addr()) == fabric.FamilyOf(peer) {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

// staticLines visits each route to a machine that speaks no BGP.
func staticLines(d *fabric.Device, line func(family fabric.Family, p netip.Prefix, via netip.Addr)) {
	for _, r := range d.Static {
		for p := range r.Each() {
			line(fabric.FamilyOf(p.Addr()), p, r.Via)
		}
	}
}

// text collects lines.
type text struct{ strings.Builder }

func (t *text) line(format string, v ...any) { fmt.Fprintf(&t.Builder, format+"\n", v...) }

// setter writes what is on, with the same words before it.
func (t *text) setter(before string) func(on bool, format string, v ...any) {
	return func(on bool, format string, v ...any) {
		if on {
			t.line("%s "+format, append([]any{before}, v...)...)
		}
	}
}
