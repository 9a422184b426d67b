// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"cmp"
	"fmt"
	"math"
	"slices"

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

// chart has racks to the right and entries upwards, on logarithmic axes.
type chart struct {
	*canvas
	first, span float64 // of racks
	low, up     float64 // powers of ten
}

// The room around the lines of a chart, and its height.
const (
	chartLeft, chartRight = 74.0, 180.0
	chartTop, chartBottom = 16.0, 40.0
	chartHigh             = 300.0
)

// x is where a number of racks is.
func (c *chart) x(racks int) float64 {
	return chartLeft + (c.w-chartLeft-chartRight)*math.Log(float64(racks)/c.first)/c.span
}

// y is where a number of entries is.
func (c *chart) y(n int) float64 {
	return chartTop + (chartHigh-chartTop-chartBottom)*(1-(math.Log10(float64(max(1, n)))-c.low)/math.Max(c.up-c.low, 1))
}

// limit is what the fullest switch of a role holds.
type limit struct {
	name  string
	holds int
}

// growth is the chart of what tables hold as racks are added, against
// the limits of the switches.
func growth(g *advise.Growth) *canvas {
	limits, least, most := bounds(g)
	first, last := float64(g.Rows[0].Racks), float64(g.Rows[len(g.Rows)-1].Racks)
	c := &chart{canvas: &canvas{w: 760, h: chartHigh}, first: first, span: math.Max(math.Log(last/first), 1e-9),
		low: math.Floor(math.Log10(math.Min(least, most))), up: math.Ceil(math.Log10(most))}
	c.axes(g.Rows)
	labels := &labels{}
	for _, v := range curves {
		c.curve(v, g.Rows, labels)
	}
	for _, l := range limits {
		at := c.y(l.holds)
		c.line(chartLeft, at, c.w-chartRight, at, "limit", l.name)
		labels.put(at, fmt.Sprintf("%s %s", l.name, fabric.Number(l.holds)))
	}
	labels.draw(c.canvas, c.w-chartRight+8, chartHigh-chartBottom)
	if g.First > 0 && float64(g.First) >= first {
		c.line(c.x(g.First), chartTop, c.x(g.First), chartHigh-chartBottom, "limit", "the first limit")
		c.text(c.x(g.First)+4, chartTop+10, "s", fmt.Sprintf("first limit: %s racks", fabric.Number(g.First)), 0)
	}
	return c.canvas
}

// bounds are the limits of the switches, or the usual one if none is known, and between what all entries are.
func bounds(g *advise.Growth) (limits []limit, least, most float64) {
	least, most = math.Inf(1), 10
	seen := map[fabric.Role]bool{}
	for _, r := range g.Rows {
		for _, v := range curves {
			e := r.Of(v.role)
			if e == nil {
				continue
			}
			n := float64(max(1, v.value(e)))
			least, most = math.Min(least, n), math.Max(most, n)
			if e.Holds > 0 && v.role != fabric.RoleServer && !seen[v.role] {
				seen[v.role] = true
				limits = append(limits, limit{v.name + " holds", int(e.Holds)})
			}
		}
	}
	if limits == nil {
		limits = []limit{{"usual limit", advise.Usual}}
	}
	for _, l := range limits {
		most = math.Max(most, float64(l.holds))
	}
	return limits, least, most
}

// axes draws a line for each power of ten, and the numbers of racks.
func (c *chart) axes(rows []advise.Row) {
	for d := c.low; d <= c.up; d++ {
		n := int(math.Pow(10, d))
		c.line(chartLeft, c.y(n), c.w-chartRight, c.y(n), "grid", "")
		c.text(chartLeft-6, c.y(n)+4, "e s", fabric.Number(n), 0)
	}
	c.line(chartLeft, chartHigh-chartBottom, c.w-chartRight, chartHigh-chartBottom, "axis", "")
	for _, r := range rows {
		c.text(c.x(r.Racks), chartHigh-chartBottom+16, "m s", fabric.Number(r.Racks), 0)
	}
	c.text(chartLeft+(c.w-chartLeft-chartRight)/2, chartHigh-6, "m s", "racks", 0)
}

// curve draws one line with its name at the end.
func (c *chart) curve(v curve, rows []advise.Row, labels *labels) {
	path, end, n := "", 0.0, 0
	for _, r := range rows {
		if e := r.Of(v.role); e != nil {
			step := "L"
			if path == "" {
				step = "M"
			}
			n = v.value(e)
			end = c.y(n)
			path += fmt.Sprintf("%s%.1f %.1f", step, c.x(r.Racks), end)
		}
	}
	if path != "" {
		c.printf(`<path class="%s" d="%s">%s</path>`, v.class, path, titleOf(v.name))
		labels.put(end, fmt.Sprintf("%s %s", v.name, fabric.Number(n)))
	}
}

// labels are texts at the right of a chart.
type labels struct{ list []label }

type label struct {
	y    float64
	text string
}

func (l *labels) put(y float64, s string) { l.list = append(l.list, label{y, s}) }

// draw writes them in the order of what they stand for, none over another and none below the bottom.
func (l *labels) draw(c *canvas, x, bottom float64) {
	const line = 13.0
	slices.SortStableFunc(l.list, func(a, b label) int { return cmp.Compare(a.y, b.y) })
	for i := 1; i < len(l.list); i++ {
		l.list[i].y = max(l.list[i].y, l.list[i-1].y+line)
	}
	for i := len(l.list) - 1; i >= 0; i-- {
		l.list[i].y = min(l.list[i].y, bottom-line*float64(len(l.list)-1-i))
		c.text(x, l.list[i].y+4, "s", l.list[i].text, 0)
	}
}
