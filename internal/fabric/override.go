// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// Overrides are edits by hand. What they say goes before what is designed, and is held against every rule as that is.
type Overrides struct {
	Devices  []DeviceOverride  `json:"devices,omitempty"`
	Sessions []SessionOverride `json:"sessions,omitempty"`
}

// DeviceOverride is what of a device is otherwise. Its peers follow its AS number.
type DeviceOverride struct {
	Name      string     `json:"name"`
	AS        uint32     `json:"as,omitempty"`
	RouterID  netip.Addr `json:"routerId,omitzero"`
	ClusterID netip.Addr `json:"clusterId,omitzero"`
	Software  Software   `json:"software,omitempty"`
	Catalog   string     `json:"catalog,omitempty"` // the entry that it is
	Multipath int        `json:"multipath,omitempty"`
}

// SessionOverride is what of one end of a session is otherwise.
type SessionOverride struct {
	On   string  `json:"on"`
	With string  `json:"with"`
	Set  Profile `json:"set"` // without a name
}

// override applies the edits. What they are on is there, unless a smaller copy is without it.
func (b *builder) override() {
	o := &b.f.Spec.Overrides
	device := func(name string) *Device {
		i := slices.IndexFunc(b.out.Devices, func(d Device) bool { return d.Name == name })
		if i < 0 {
			return nil
		}
		return &b.out.Devices[i]
	}
	for i := range o.Devices {
		if d := device(o.Devices[i].Name); d != nil {
			b.overrideDevice(d, &o.Devices[i])
		}
	}
	for i := range o.Sessions {
		if d := device(o.Sessions[i].On); d != nil {
			b.overrideSession(d, &o.Sessions[i])
		}
	}
}

func (b *builder) overrideDevice(d *Device, o *DeviceOverride) {
	set(&d.RouterID, o.RouterID)
	set(&d.ClusterID, o.ClusterID)
	set(&d.Software, o.Software)
	if o.Catalog != "" {
		of := &b.f.Spec.Switches.ToR
		if d.Role == RoleSpine {
			of = &b.f.Spec.Switches.Spine
		}
		d.Platform = b.silicon(o.Catalog, of)
	}
	if o.AS != 0 || o.Multipath != 0 {
		b.out.Edited = true
	}
	set(&d.Multipath, o.Multipath)
	if o.AS == 0 {
		return
	}
	d.AS = o.AS
	for i := range b.out.Devices {
		for j := range b.out.Devices[i].Sessions {
			if s := &b.out.Devices[i].Sessions[j]; s.Peer == d.Name {
				s.PeerAS = o.AS
			}
		}
	}
}

// overrideSession gives this end a profile of its own.
func (b *builder) overrideSession(d *Device, o *SessionOverride) {
	for i := range d.Sessions {
		s := &d.Sessions[i]
		if s.Peer != o.With {
			continue
		}
		p := b.out.Profiles[slices.IndexFunc(b.out.Profiles, func(p Profile) bool { return p.Name == s.Profile })]
		// Timers and keys change no table.
		if bare := (Profile{BFD: o.Set.BFD, Hold: o.Set.Hold, GracefulRestart: o.Set.GracefulRestart, MaxPrefix: o.Set.MaxPrefix,
			MaxPrefixAction: o.Set.MaxPrefixAction, Authentication: o.Set.Authentication}); bare != o.Set {
			b.out.Edited = true
		}
		p.Name = fmt.Sprintf("%s.%s.%s", p.Name, d.Name, o.With)
		to, from := reflect.ValueOf(&p).Elem(), reflect.ValueOf(o.Set)
		for j := range from.NumField() {
			if v := from.Field(j); !v.IsZero() {
				to.Field(j).Set(v)
			}
		}
		if s.Profile = p.Name; !slices.ContainsFunc(b.out.Profiles, func(x Profile) bool { return x.Name == p.Name }) {
			b.out.Profiles = append(b.out.Profiles, p)
		}
	}
}

// set is what an edit says, if it says something.
func set[T comparable](field *T, value T) {
	var zero T
	if value != zero {
		*field = value
	}
}

// checkOverrides refuses edits of what is not there, or that edit nothing.
func (f *Fabric) checkOverrides(e *faults) {
	o := &f.Spec.Overrides
	if len(o.Devices)+len(o.Sessions) == 0 {
		return
	}
	plain := *f
	plain.Spec.Overrides = Overrides{}
	x := plain.Design().Index()
	var names []string
	for i := range x.Devices {
		names = append(names, x.Devices[i].Name)
	}
	known := func(at, name string) *Device {
		if d := x.Device(name); d != nil {
			return d
		}
		fix := "`muslin fabric design` lists them"
		if best := v3.Nearest(strings.ReplaceAll(name, "/", "-"), names); best != "" {
			fix = fmt.Sprintf("did you mean %q?", best)
		}
		e.add(at, fix, "%q is no device", clip(name))
		return nil
	}
	for i := range o.Devices {
		c, at := &o.Devices[i], fmt.Sprintf("spec.overrides.devices[%d]", i)
		checkSilicon(e, at+".catalog", c.Catalog)
		d := known(at+".name", c.Name)
		isServer := d != nil && (d.Role == RoleServer || d.Role == RoleReflector)
		switch {
		case d == nil:
		case *c == DeviceOverride{Name: c.Name}:
			e.add(at, "say what of it is otherwise, such as software: bird", "nothing of %s", c.Name)
		case slices.ContainsFunc(o.Devices[:i], func(other DeviceOverride) bool { return other.Name == c.Name }):
			e.add(at+".name", "say all of it in one place", "%s is there already", c.Name)
		case c.Software != "" && isServer && c.Software != Muslin && c.Software != BIRD:
			e.add(at+".software", "want muslin or bird on a "+string(d.Role), "%s", c.Software)
		case c.Software == Muslin && !isServer:
			e.add(at+".software", "want frr, bird or gobgp: muslin runs on servers", "%s", c.Software)
		case c.Catalog != "" && d.Role != RoleToR && d.Role != RoleSpine:
			e.add(at+".catalog", "leave it out: it is for ToRs and spines", "%s is a %s", c.Name, d.Role)
		case c.RouterID.IsValid() && !c.RouterID.Is4() || c.ClusterID.IsValid() && !c.ClusterID.Is4():
			e.add(at, "want 32 bits, written as an IPv4 address (RFC 6286)", "%s%s", c.RouterID, c.ClusterID)
		}
	}
	for i := range o.Sessions {
		c, at := &o.Sessions[i], fmt.Sprintf("spec.overrides.sessions[%d]", i)
		on, with := known(at+".on", c.On), known(at+".with", c.With)
		if on == nil || with == nil {
			continue
		}
		meets := slices.ContainsFunc(x.Meshes, func(m Mesh) bool { return slices.Contains(m.Members, c.On) && slices.Contains(m.Members, c.With) })
		switch {
		case slices.ContainsFunc(on.Sessions, func(s Session) bool { return s.Peer == c.With }):
		case meets:
			e.add(at, "change it in what `muslin fabric design -o json` prints: all members of a mesh have one profile", "%s and %s meet in a mesh", c.On, c.With)
			continue
		default:
			e.add(at, "name two that have one", "%s has no session with %s", c.On, c.With)
			continue
		}
		if slices.ContainsFunc(o.Sessions[:i], func(other SessionOverride) bool { return other.On == c.On && other.With == c.With }) {
			e.add(at, "say all of it in one place", "%s with %s is there already", c.On, c.With)
		}
		if c.Set.Name != "" {
			e.add(at+".set.name", "leave it out: what differs has a profile of its own", "%s", clip(c.Set.Name))
		}
		if c.Set == (Profile{}) {
			e.add(at+".set", "say what is otherwise, such as bfd: 300ms", "nothing")
		}
		for _, filter := range []struct{ field, name string }{{"import", c.Set.Import}, {"export", c.Set.Export}} {
			if filter.name != "" && x.Filter(filter.name) == nil {
				var all []string
				for j := range x.Filters {
					all = append(all, x.Filters[j].Name)
				}
				e.add(at+".set."+filter.field, wantOneOf(filter.name, all), "no filter %q", clip(filter.name))
			}
		}
	}
}
