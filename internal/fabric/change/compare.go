// SPDX-License-Identifier: Apache-2.0

package change

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
)

// Group is devices that change alike.
type Group struct {
	Role    fabric.Role `json:"role"`
	Devices []string    `json:"devices"`
	What    []string    `json:"what"`

	rank int // the order in which groups are tried
}

// The ranks of groups: what is new first, what goes last; from the top to the servers, and back.
const (
	isNew = iota
	isChanged
	isGone
)

var heights = []fabric.Role{fabric.RoleSpine, fabric.RoleBorder, fabric.RoleReflector, fabric.RoleToR, fabric.RoleMachine, fabric.RoleServer}

// compare finds the devices that differ, gathered by what they change.
func compare(a, b *fabric.Index) (list []*Group) {
	at := map[string]*Group{}
	add := func(d *fabric.Device, how int, what []string) {
		key := fmt.Sprint(d.Role, how, what)
		g := at[key]
		if g == nil {
			height := slices.Index(heights, d.Role)
			if how == isGone {
				height = len(heights) - height
			}
			g = &Group{Role: d.Role, What: what, rank: how*100 + height}
			at[key], list = g, append(list, g)
		}
		g.Devices = append(g.Devices, d.Name)
	}
	for i := range b.Devices {
		d := &b.Devices[i]
		old := a.Device(d.Name)
		if old == nil {
			add(d, isNew, []string{fmt.Sprintf("new, in AS %s, %s", asOf(b, d), fabric.Amount(b.Peers(d), "session"))})
		} else if what := differs(a, b, old, d); what != nil {
			add(d, isChanged, what)
		}
	}
	for i := range a.Devices {
		if d := &a.Devices[i]; b.Device(d.Name) == nil {
			add(d, isGone, []string{"gone"})
		}
	}
	slices.SortStableFunc(list, func(x, y *Group) int { return cmp.Compare(x.rank, y.rank) })
	return list
}

// asOf is the AS number of a device, in words where each device or rack has its own.
func asOf(x *fabric.Index, d *fabric.Device) string {
	alone := true
	for i := range x.Devices {
		switch o := &x.Devices[i]; {
		case o.AS != d.AS || o.Name == d.Name:
		case d.Rack == "" || o.Rack != d.Rack:
			return fmt.Sprint(d.AS)
		default:
			alone = false
		}
	}
	if alone {
		return "of its own"
	}
	return "of its rack"
}

// differs says what a device changes; nil if nothing.
func differs(a, b *fabric.Index, old, d *fabric.Device) (what []string) {
	say := func(format string, v ...any) { what = append(what, fmt.Sprintf(format, v...)) }
	if old.AS != d.AS {
		say("AS %s → %s", asOf(a, old), asOf(b, d))
	}
	if old.RouterID != d.RouterID {
		say("another router ID")
	}
	if old.Software != d.Software {
		say("%s instead of %s", d.Software, old.Software)
	}
	ports := func(d *fabric.Device) map[string]string {
		m := map[string]string{}
		for _, i := range d.Interfaces {
			m[i.Name+" "+i.Segment] = text(i.Addresses)
		}
		return m
	}
	tell(say, "port", ports(old), ports(d))
	sessions(say, a, b, old, d)
	origins := func(d *fabric.Device) map[string]string {
		m := map[string]string{}
		for _, o := range d.Originate {
			m[fmt.Sprint(o.Kind, o.Prefix)] = text(o)
		}
		for _, p := range d.Discard {
			m["discard "+p.String()] = ""
		}
		return m
	}
	tell(say, "announcement", origins(old), origins(d))
	// What is left: multipath, cluster ID, host, the settings of a vRouter.
	rest := func(d *fabric.Device) string {
		c := *d
		c.AS, c.RouterID, c.Software, c.Platform, c.Interfaces, c.Sessions, c.Originate, c.Discard = 0, old.RouterID, "", "", nil, nil, nil, nil
		return text(c)
	}
	if rest(old) != rest(d) {
		say("other settings of the router")
	}
	return what
}

// tell counts what is new, gone and changed between two lists.
func tell(say func(string, ...any), thing string, old, now map[string]string) {
	var more, less, other int
	for k, v := range now {
		if w, ok := old[k]; !ok {
			more++
		} else if w != v {
			other++
		}
	}
	for k := range old {
		if _, ok := now[k]; !ok {
			less++
		}
	}
	if more > 0 {
		say("+%s", fabric.Amount(more, thing))
	}
	if less > 0 {
		say("−%s", fabric.Amount(less, thing))
	}
	if other > 0 {
		say("%s changed", fabric.Amount(other, thing))
	}
}

// sessions says how those of a device differ, by the role of the peer.
func sessions(say func(string, ...any), a, b *fabric.Index, old, d *fabric.Device) {
	type end struct{ settings, address string }
	list := func(x *fabric.Index, d *fabric.Device) (byRole map[fabric.Role]map[string]end) {
		byRole = map[fabric.Role]map[string]end{}
		put := func(role fabric.Role, key string, e end) {
			if byRole[role] == nil {
				byRole[role] = map[string]end{}
			}
			byRole[role][key] = e
		}
		for i := range d.Sessions {
			s := &d.Sessions[i]
			put(x.Device(s.Peer).Role, s.Peer+" "+s.Segment, end{settings(x, s.Profile), fmt.Sprint(s.PeerAS, s.Address)})
		}
		for _, m := range x.MeshesOf(d) {
			for _, name := range m.Members {
				if o := x.Device(name); m.Joins(d, o) {
					put(o.Role, name+" "+m.Segment, end{settings(x, m.Profile), fmt.Sprint(o.AS, addresses(o, m.Segment))})
				}
			}
		}
		return byRole
	}
	was, is := list(a, old), list(b, d)
	for _, role := range heights {
		var more, less, moved int
		edits := map[string]int{}
		for k, e := range is[role] {
			o, ok := was[role][k]
			switch {
			case !ok:
				more++
			case o.settings != e.settings:
				edits[edit(o.settings, e.settings)]++
			case o.address != e.address:
				moved++
			}
		}
		for k := range was[role] {
			if _, ok := is[role][k]; !ok {
				less++
			}
		}
		if more > 0 {
			say("+%s with %ss", fabric.Amount(more, "session"), role)
		}
		if less > 0 {
			say("−%s with %ss", fabric.Amount(less, "session"), role)
		}
		if moved > 0 {
			say("another address or AS number of %s %ss", fabric.Number(moved), role)
		}
		var texts []string
		for t, n := range edits {
			texts = append(texts, fmt.Sprintf("%s with %ss: %s", fabric.Amount(n, "session"), role, t))
		}
		slices.Sort(texts)
		for _, t := range texts {
			say("%s", t)
		}
	}
}

// settings are those of a profile with its filters, whatever they are called.
func settings(x *fabric.Index, name string) string {
	p := *x.Profile(name)
	rules := func(name string) string {
		if f := x.Filter(name); f != nil {
			return text(f.Rules)
		}
		return ""
	}
	p.Import, p.Export, p.Name = rules(p.Import), rules(p.Export), ""
	return text(p)
}

// edit says which settings differ between two.
func edit(old, now string) string {
	var a, b map[string]any
	if json.Unmarshal([]byte(old), &a) != nil || json.Unmarshal([]byte(now), &b) != nil {
		return "other settings"
	}
	names := map[string]bool{}
	for k := range a {
		names[k] = true
	}
	for k := range b {
		names[k] = true
	}
	var out []string
	for k := range names {
		x, y := a[k], b[k]
		switch {
		case fmt.Sprint(x) == fmt.Sprint(y):
		case k == "import" || k == "export":
			out = append(out, "another "+k+" filter")
		case y == nil:
			out = append(out, "no "+k)
		default:
			out = append(out, fmt.Sprintf("%s %v", k, y))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// addresses are those of a device on a segment.
func addresses(d *fabric.Device, segment string) string {
	if i := d.Interface(segment); i != nil {
		return text(i.Addresses)
	}
	return ""
}

// text is a value that can be compared.
func text(v any) string {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		panic(err) // what is in a design can be written
	}
	return b.String()
}
