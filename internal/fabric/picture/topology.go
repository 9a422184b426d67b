// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/check"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

const (
	width    = 1120.0
	margin   = 16.0
	boxWide  = 108.0
	boxHigh  = 54.0
	gap      = 10.0
	inDetail = 6  // racks that are drawn with their servers
	inGrid   = 24 // racks that are all drawn
	maxBoxes = 8  // of the top in one row
	maxShown = 6  // servers of a rack
)

// topology is a design on its way to a picture.
type topology struct {
	canvas
	x       *fabric.Index
	colours map[uint32]string
	entries []fabric.Entries
	alike   map[string]string // of each device, the one whose entry it has
	marks   Marks
	at      map[string]point // middle of what is drawn
	plane   map[string]point
	beside  map[string]point   // of a device below others of its rack: x and top of the way down between them, and where it ends
	edge    map[string]float64 // the right side of such a device
	back    canvas             // what is below lines: racks and planes
	under   canvas             // lines, which are below boxes
	below   bool               // what is placed now is below the first row of racks: its lines are left out
	partial bool               // lines were left out
	grows   bool               // a bar has the mark of growth
}

type point struct{ x, top, bottom float64 }

// Marks are what is dashed red in a picture.
type Marks struct {
	// Things are devices, segments, links (A-B) and ports (DEVICE-SEGMENT), and what is with each.
	Things map[string]string
	// Means is what a mark says, for the legend.
	Means string
	// Says is a line below the title, instead of what the design comes to.
	Says string
}

// Topology draws a design.
func Topology(g *fabric.Design, marks Marks) string {
	return topologyOf(g, marks).svg(true, g.Summary())
}

func topologyOf(g *fabric.Design, marks Marks) *canvas {
	t := &topology{x: g.Index(), colours: map[uint32]string{}, marks: marks, at: map[string]point{}, plane: map[string]point{}, beside: map[string]point{}, edge: map[string]float64{}}
	t.w = width
	t.weigh()
	t.text(margin, 24, "t", g.Metadata.Name, 0)
	t.text(margin, 42, "s", cmp.Or(marks.Says, strings.TrimPrefix(g.Summary(), g.Metadata.Name+": ")), width-2*margin)
	y := 58.0
	for _, role := range []fabric.Role{fabric.RoleBorder, fabric.RoleReflector, fabric.RoleSpine} {
		y = t.row(role, y)
	}
	y = t.planes(y)
	y = t.racks(y)
	t.links()
	t.h = t.legend(y)
	out := &canvas{w: t.w, h: t.h}
	out.b.WriteString(t.back.b.String())
	out.b.WriteString(t.under.b.String())
	out.b.WriteString(t.b.String())
	return out
}

// weigh finds colours and tables.
func (t *topology) weigh() {
	for i := range t.x.Devices {
		d := &t.x.Devices[i]
		if _, ok := t.colours[d.AS]; !ok {
			t.colours[d.AS] = colour(len(t.colours))
		}
	}
	t.entries, t.alike, _, _ = sim.Entries(t.x) // without them no table is drawn
}

// entry is the table of a switch, if it has one.
func (t *topology) entry(d *fabric.Device) *fabric.Entries {
	if d.Role != fabric.RoleToR && d.Role != fabric.RoleSpine {
		return nil
	}
	for i := range t.entries {
		e := &t.entries[i]
		if e.Device == t.alike[d.Name] {
			return e
		}
	}
	return nil
}

// box draws a device with its AS number and how full its table is.
func (t *topology) box(d *fabric.Device, x, y, w float64, name string) {
	class, title := "box", fmt.Sprintf("%s, %s, AS %d, router ID %s, %s", d.Name, d.Role, d.AS, d.RouterID, fabric.Amount(t.x.Peers(d), "session"))
	if what, ok := t.marks.Things[d.Name]; ok {
		class, title = "box lossy", title+"; "+what
	}
	t.rect(x, y, w, boxHigh, class, t.colours[d.AS], title)
	t.text(x+w/2, y+14, "m b", name, w-6)
	t.text(x+w/2, y+27, "m s", fmt.Sprintf("AS %d", d.AS), w-4)
	if !t.below {
		t.at[d.Name] = point{x + w/2, y, y + boxHigh}
	}
	e := t.entry(d)
	switch {
	case e == nil:
		if n := endpoints(d); n > 0 {
			t.text(x+w/2, y+43, "m s", fabric.Number(n)+" endpoints", w-4)
		}
	case e.Holds == 0:
		t.text(x+w/2, y+43, "m s", fabric.Number(e.Used)+" entries", w-4)
	default:
		t.bar(x+6, y+32, w-12, 7, e)
		t.grows = t.grows || e.Grown > e.Used
		text := fabric.Number(e.Used) + " / " + fabric.Number(int(e.Holds))
		if len(text) > 18 {
			text = fmt.Sprintf("%d %% of %s", 100*e.Used/int(e.Holds), fabric.Number(int(e.Holds)))
		}
		t.text(x+w/2, y+50, "m s", text, w)
	}
}

// endpoints are those of a server, each once where it has an address of both families.
func endpoints(d *fabric.Device) int {
	var n [2]int
	for _, o := range d.Originate {
		i := 0
		if o.Prefix.Addr().Is6() {
			i = 1
		}
		switch o.Kind {
		case fabric.OriginEndpoints:
			n[i] += o.Count
		case fabric.OriginBlock:
			n[i] += o.Endpoints
		}
	}
	return max(n[0], n[1])
}

// bar is how full a table is, with ticks where the rules speak up, and a mark where it will be.
func (c *canvas) bar(x, y, w, h float64, e *fabric.Entries) {
	part := float64(e.Used) / float64(e.Holds)
	c.rect(x, y, w, h, "track", "", fmt.Sprintf("%s of %s entries, %.0f %%", fabric.Number(e.Used), fabric.Number(int(e.Holds)), 100*part))
	c.rect(x, y, w*min(1, part), h, fillClass(e), "", "")
	for _, tick := range []float64{check.FillWarns / 100., check.FillGrown / 100.} {
		c.line(x+w*tick, y, x+w*tick, y+h, "axis", "")
	}
	if e.Grown > e.Used {
		at := x + w*min(1, float64(e.Grown)/float64(e.Holds))
		c.line(at, y-2, at, y+h+2, "limit", "with growth "+fabric.Number(e.Grown))
	}
}

// fillClass is the colour of a fill, by the limits at which the rules speak up.
func fillClass(e *fabric.Entries) string {
	switch percent, grown := 100*e.Used/int(e.Holds), 100*e.Grown/int(e.Holds); {
	case percent >= 100 || e.Grown > e.Used && grown >= 100:
		return "over"
	case percent >= check.FillWarns || e.Grown > e.Used && grown >= check.FillGrown:
		return "warn"
	}
	return "ok"
}

// row draws the devices of a role that belong to no rack.
func (t *topology) row(role fabric.Role, y float64) float64 {
	var list []*fabric.Device
	for i := range t.x.Devices {
		if d := &t.x.Devices[i]; d.Role == role && d.Rack == "" {
			list = append(list, d)
		}
	}
	if len(list) == 0 {
		return y
	}
	shown, more := list, 0
	if len(list) > maxBoxes {
		shown, more = list[:maxBoxes-1], len(list)-maxBoxes+1
	}
	n := len(shown)
	if more > 0 {
		n++
	}
	step := (width - 2*margin) / float64(n)
	for i, d := range shown {
		t.box(d, margin+step*(float64(i)+.5)-boxWide/2, y, boxWide, d.Name)
	}
	if more > 0 {
		t.text(margin+step*(float64(n)-.5), y+boxHigh/2+4, "m b", fmt.Sprintf("and %s more", fabric.Number(more)), 0)
	}
	return y + boxHigh + 54
}

// planes draws each Ethernet plane as a bar.
func (t *topology) planes(y float64) float64 {
	n := 0
	for i := range t.x.Segments {
		s := &t.x.Segments[i]
		if s.Kind != fabric.Plane {
			continue
		}
		var nets []string
		for _, p := range s.Subnets {
			nets = append(nets, p.String())
		}
		t.back.rect(margin, y, width-2*margin, 18, "plane", "", s.Name)
		t.text(margin+8, y+13, "p", fmt.Sprintf("%s on %s · %s · %s routers", s.Name, s.Switch, strings.Join(nets, " · "), fabric.Number(len(t.x.On(s.Name)))), 0)
		t.plane[s.Name] = point{width / 2, y, y + 18}
		y += 26
		n++
	}
	if n > 0 {
		y += 30
	}
	return y
}

// rackView is one rack that is drawn, perhaps for many.
type rackView struct {
	name          string
	tors, servers []*fabric.Device
	many          int
}

// racks draws the racks, as many of them as can be read.
func (t *topology) racks(y float64) float64 {
	all := t.rackViews()
	detailed := len(all) <= inDetail
	if len(all) > inGrid {
		all, detailed = kinds(all), true
	}
	perRow := min(len(all), 8)
	if detailed {
		perRow = min(len(all), inDetail)
	}
	if perRow == 0 {
		return y
	}
	cell := (width - 2*margin) / float64(perRow)
	for from := 0; from < len(all); from += perRow {
		row := all[from:min(len(all), from+perRow)]
		high := 0.0
		for _, r := range row {
			high = max(high, t.rackHigh(r, cell, detailed))
		}
		t.below = from > 0
		t.partial = t.partial || t.below
		for i, r := range row {
			t.rack(r, margin+float64(i)*cell+4, y, cell-8, high, detailed)
		}
		y += high + 22
	}
	return y
}

func (t *topology) rackViews() (list []*rackView) {
	at := map[string]*rackView{}
	for i := range t.x.Devices {
		d := &t.x.Devices[i]
		if d.Rack == "" {
			continue
		}
		r := at[d.Rack]
		if r == nil {
			r = &rackView{name: d.Rack, many: 1}
			at[d.Rack], list = r, append(list, r)
		}
		if d.Role == fabric.RoleToR {
			r.tors = append(r.tors, d)
		} else {
			r.servers = append(r.servers, d)
		}
	}
	return list
}

// kinds keeps one rack of each kind.
func kinds(all []*rackView) (list []*rackView) {
	at := map[string]*rackView{}
	for _, r := range all {
		var b strings.Builder
		for _, d := range slices.Concat(r.tors, r.servers) {
			n := 0
			for _, o := range d.Originate {
				n += o.Count
			}
			fmt.Fprint(&b, d.Role, d.Software, d.Platform, len(d.Sessions), n, " ")
		}
		if k := at[b.String()]; k != nil {
			k.many++
			continue
		}
		at[b.String()], list = r, append(list, r)
	}
	return list
}

// perLine is how many boxes stand side by side in a rack.
func perLine(n int, cell float64) int {
	return max(1, min(n, int((cell-8-gap)/(boxWide+gap))))
}

func (t *topology) rackHigh(r *rackView, cell float64, detailed bool) float64 {
	lines := func(n int) float64 { return float64((n + perLine(n, cell) - 1) / perLine(n, cell)) }
	h := 26 + lines(len(r.tors))*(boxHigh+gap)
	switch n := len(r.servers); {
	case n == 0:
	case !detailed:
		h += 32
	default:
		h += 18 + lines(min(n, maxShown))*(boxHigh+gap)
		if n > maxShown {
			h += 20
		}
	}
	return h
}

// rack draws a rack.
func (t *topology) rack(r *rackView, x, y, w, h float64, detailed bool) {
	t.back.rect(x, y, w, h, "rack", "", "rack "+r.name)
	name := r.name
	if r.many > 1 {
		name = fmt.Sprintf("%s × %s", r.name, fabric.Number(r.many))
	}
	t.text(x+7, y+15, "r", name, w-10) // lines to its ToRs may cross it
	y += 26
	lay := func(list []*fabric.Device) {
		n := perLine(len(list), w+8)
		for i := 0; i < len(list); i += n {
			line := list[i:min(len(list), i+n)]
			step := w / float64(n)
			for j, d := range line {
				wide := min(boxWide, w-8)
				left := x + step*(float64(j)+.5) - wide/2
				t.box(d, left, y, wide, strings.TrimPrefix(d.Name, r.name+"-"))
				if i > 0 && !t.below { // lines come down beside the boxes above it
					t.beside[d.Name] = point{x: left + wide + min(gap, step-wide)/2, top: y - boxHigh*float64(i/n) - gap*float64(i/n), bottom: y + boxHigh/2}
					t.edge[d.Name] = left + wide
				}
			}
			y += boxHigh + gap
		}
	}
	lay(r.tors)
	if len(r.servers) == 0 {
		return
	}
	if !detailed {
		t.text(x+w/2, y+8, "m s", fabric.Number(len(r.servers))+" servers", w-6)
		t.text(x+w/2, y+21, "m s", serversAS(r.servers), w-6)
		return
	}
	y += 18
	lay(r.servers[:min(len(r.servers), maxShown)])
	if more := len(r.servers) - maxShown; more > 0 {
		t.text(x+w/2, y+8, "m s", fmt.Sprintf("and %s more", fabric.Amount(more, "server")), w-6)
	}
}

func serversAS(list []*fabric.Device) string {
	for _, d := range list {
		if d.AS != list[0].AS {
			return "an AS each"
		}
	}
	return fmt.Sprintf("AS %d", list[0].AS)
}

// links draws the sessions between what is drawn; those over a plane end there.
func (t *topology) links() {
	seen := map[string]bool{}
	for i := range t.x.Devices {
		d := &t.x.Devices[i]
		onPlane := map[string]string{} // by segment: the kind of sessions there, iBGP if there are both
		each := func(peer, segment string, ibgp bool) {
			class := "ebgp"
			if ibgp {
				class = "ibgp"
			}
			if _, ok := t.plane[segment]; !ok {
				t.link(d, peer, class, seen)
			} else if onPlane[segment] != "ibgp" {
				onPlane[segment] = class
			}
		}
		for _, s := range d.Sessions {
			each(s.Peer, s.Segment, s.PeerAS == d.AS)
		}
		for _, m := range t.x.MeshesOf(d) {
			if _, ok := t.plane[m.Segment]; ok {
				each("", m.Segment, m.Kind == fabric.MeshIBGP)
				continue
			}
			for _, name := range m.Members {
				if o := t.x.Device(name); m.Joins(d, o) {
					each(name, m.Segment, m.Kind == fabric.MeshIBGP)
				}
			}
		}
		t.ports(d, onPlane)
	}
}

// ports draws those of a device on planes, side by side.
func (t *topology) ports(d *fabric.Device, onPlane map[string]string) {
	p, drawn := t.at[d.Name]
	n := 0
	for i := range t.x.Segments {
		s := &t.x.Segments[i]
		bar, ok := t.plane[s.Name]
		if !ok {
			continue
		}
		n++
		class := onPlane[s.Name]
		if class == "" || !drawn {
			continue
		}
		x, from, to := p.x+float64((n-1)%5-2)*8+8, p.top, bar.bottom
		if p.top < bar.top {
			from, to = p.bottom, bar.top
		}
		title := d.Name + " on " + s.Name
		for _, name := range []string{d.Name + "-" + s.Name, s.Name} {
			if what, ok := t.marks.Things[name]; ok {
				class, title = "lossy", title+"; "+what
				break
			}
		}
		t.under.line(x, from, x, to, class, title)
		t.under.dot(x, to, strings.Fields(class)[0])
	}
}

// link draws the sessions of two devices.
func (t *topology) link(d *fabric.Device, peer, class string, seen map[string]bool) {
	p, ok := t.at[d.Name]
	q, drawn := t.at[peer]
	name, back := d.Name+"-"+peer, peer+"-"+d.Name
	if !ok || !drawn || seen[name] || seen[back] {
		return
	}
	seen[name] = true
	title := fmt.Sprintf("%s and %s, %sBGP", d.Name, peer, class[:1])
	for _, n := range []string{name, back} {
		if what, ok := t.marks.Things[n]; ok {
			class, title = "lossy", title+"; "+what
		}
	}
	if p.top > q.top {
		p, q = q, p
	}
	if p.top == q.top { // side by side: an arc below
		t.under.printf(`<path class="%s" d="M%.0f %.0fQ%.0f %.0f %.0f %.0f">%s</path>`, class, p.x, p.bottom, (p.x+q.x)/2, p.bottom+34, q.x, q.bottom, titleOf(title))
		return
	}
	for _, name := range []string{d.Name, peer} {
		if down, ok := t.beside[name]; ok && q == t.at[name] {
			t.under.printf(`<path class="%s" d="M%.0f %.0fL%.1f %.0fV%.0fH%.1f">%s</path>`, class, p.x, p.bottom, down.x, down.top-4, down.bottom, t.edge[name], titleOf(title))
			return
		}
	}
	t.under.line(p.x, p.bottom, q.x, q.top, class, title)
}

// legend says what colours and lines mean, and counts sessions.
func (t *topology) legend(y float64) float64 {
	kinds := countSessions(t.x)
	x := margin
	put := func(class, s string) {
		t.line(x, y+8, x+26, y+8, class, "")
		t.text(x+32, y+12, "s", s, 0)
		x += 44 + 5.6*float64(len([]rune(s)))
	}
	put("ebgp", "eBGP: "+fabric.Amount(kinds.ebgp, "session"))
	put("ibgp", fmt.Sprintf("iBGP: %s, %s of them reflected", fabric.Number(kinds.ibgp), fabric.Number(kinds.reflected)))
	if len(t.marks.Things) > 0 {
		put("lossy", t.marks.Means)
	}
	text := fmt.Sprintf("a colour for each of %s; bars: how full the table is, ticks at %d and %d %%", fabric.Amount(len(t.colours), "AS number"), check.FillWarns, check.FillGrown)
	if t.grows {
		text += ", a red mark: with growth"
	}
	if t.partial {
		text += "; racks below the first row are connected as those in it"
	}
	t.text(margin, y+30, "s", text, 0)
	return y + 42
}

// sessionCount is how many sessions of each kind there are.
type sessionCount struct{ ebgp, ibgp, reflected int }

// countSessions counts those of a design.
func countSessions(x *fabric.Index) (k sessionCount) {
	for i := range x.Devices {
		d := &x.Devices[i]
		for _, s := range d.Sessions {
			switch {
			case s.PeerAS != d.AS:
				k.ebgp++
			default:
				k.ibgp++
				if x.Profile(s.Profile).ReflectorClient {
					k.reflected += 2 // the client's end does not say so
				}
			}
		}
		for _, m := range x.MeshesOf(d) {
			if n := x.MeshPeers(m, d); m.Kind == fabric.MeshIBGP {
				k.ibgp += n
			} else {
				k.ebgp += n
			}
		}
	}
	return sessionCount{k.ebgp / 2, k.ibgp / 2, k.reflected / 2}
}
