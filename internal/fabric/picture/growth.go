// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"fmt"
	"math"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/advise"
)

// curve is one line of the chart.
type curve struct {
	name  string
	class string
	value func(e *fabric.Entries) int
	role  fabric.Role
}

var curves = []curve{
	{"ToR table", "c0", func(e *fabric.Entries) int { return e.Used }, fabric.RoleToR},
	{"spine table", "c1", func(e *fabric.Entries) int { return e.Used }, fabric.RoleSpine},
	{"server routes", "c2", func(e *fabric.Entries) int { return e.Routes + e.Other }, fabric.RoleServer},
}

// growth is the chart of what tables hold as racks are added, on logarithmic axes, against
// the limits of the switches.
func growth(g *advise.Growth) *canvas {
	const left, right, top, bottom, high = 74.0, 180.0, 16.0, 40.0, 300.0
	c := &canvas{w: 760, h: high}
	limits := map[string]int{}
	var order []string
	most, least := 10.0, math.Inf(1)
	for _, r := range g.Rows {
		for _, v := range curves {
			if e := r.Of(v.role); e != nil {
				n := float64(max(1, v.value(e)))
				most, least = math.Max(most, n), math.Min(least, n)
				if name := v.name + " holds"; e.Holds > 0 && v.role != fabric.RoleServer && limits[name] == 0 {
					limits[name], order = int(e.Holds), append(order, name)
					most = math.Max(most, float64(e.Holds))
				}
			}
		}
	}
	if len(order) == 0 {
		limits["usual limit"], order = advise.Usual, []string{"usual limit"}
		most = math.Max(most, advise.Usual)
	}
	low, up := math.Floor(math.Log10(math.Min(least, most))), math.Ceil(math.Log10(most))
	first, last := float64(g.Rows[0].Racks), float64(g.Rows[len(g.Rows)-1].Racks)
	span := math.Max(math.Log(last/first), 1e-9)
	px := func(racks int) float64 {
		return left + (c.w-left-right)*math.Log(float64(racks)/first)/span
	}
	py := func(n int) float64 {
		return top + (high-top-bottom)*(1-(math.Log10(float64(max(1, n)))-low)/math.Max(up-low, 1))
	}
	for d := low; d <= up; d++ {
		n := int(math.Pow(10, d))
		c.line(left, py(n), c.w-right, py(n), "grid", "")
		c.text(left-6, py(n)+4, "e s", fabric.Number(n), 0)
	}
	c.line(left, high-bottom, c.w-right, high-bottom, "axis", "")
	for _, r := range g.Rows {
		c.text(px(r.Racks), high-bottom+16, "m s", fabric.Number(r.Racks), 0)
	}
	c.text(left+(c.w-left-right)/2, high-6, "m s", "racks", 0)
	labels := newLabels(c, c.w-right+8)
	for _, v := range curves {
		path, end, n := "", 0.0, 0
		for _, r := range g.Rows {
			if e := r.Of(v.role); e != nil {
				step := "L"
				if path == "" {
					step = "M"
				}
				n = v.value(e)
				end = py(n)
				path += fmt.Sprintf("%s%.1f %.1f", step, px(r.Racks), end)
			}
		}
		if path != "" {
			c.printf(`<path class="%s" d="%s">%s</path>`, v.class, path, titleOf(v.name))
			labels.put(end, fmt.Sprintf("%s %s", v.name, fabric.Number(n)))
		}
	}
	for _, name := range order {
		at := py(limits[name])
		c.line(left, at, c.w-right, at, "limit", name)
		labels.put(at, fmt.Sprintf("%s %s", name, fabric.Number(limits[name])))
	}
	if g.First > 0 && float64(g.First) >= first {
		c.line(px(g.First), top, px(g.First), high-bottom, "limit", "the first limit")
		c.text(px(g.First)+4, top+10, "s", fmt.Sprintf("first limit: %s racks", fabric.Number(g.First)), 0)
	}
	return c
}

// labels are texts at the right of a chart, none over another.
type labels struct {
	c    *canvas
	x    float64
	used []float64
}

func newLabels(c *canvas, x float64) *labels { return &labels{c: c, x: x} }

func (l *labels) put(y float64, s string) {
	const line = 13.0
	for moved := true; moved; {
		moved = false
		for _, u := range l.used {
			if math.Abs(u-y) < line-.5 {
				y, moved = u+line, true
			}
		}
	}
	l.used = append(l.used, y)
	l.c.text(l.x, y+4, "s", s, 0)
}
