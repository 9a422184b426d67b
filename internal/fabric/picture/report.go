// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/advise"
	"github.com/muslin-net/muslin/internal/fabric/check"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// Report is what is drawn and written about a design.
type Report struct {
	Design   *fabric.Design
	Findings []*check.Finding
	Failures []check.Failures
	Growth   *advise.Growth // nil for a design that follows from no Fabric
}

// New gathers what a report tells. f is nil for a design that follows from no Fabric. What
// cannot be simulated is among the findings.
func New(g *fabric.Design, f *fabric.Fabric) *Report {
	r := &Report{Design: g}
	r.Findings, r.Failures = check.WithFailures(g)
	if f != nil && f.Spec.Racks.List == nil {
		n := f.Spec.Racks.Count
		racks := []int{n}
		for m := 2 * n; m <= 16*n && m*f.Spec.Servers.PerRack <= maxServers; m *= 2 {
			racks = append(racks, m)
		}
		for m := n / 2; m > 0 && len(racks) < 3; m /= 2 {
			racks = slices.Insert(racks, 0, m)
		}
		r.Growth = advise.Cost(f, racks)
	}
	return r
}

// maxServers bounds how far growth is drawn.
const maxServers = 20_000

// lossy are the failures that lose traffic.
func (r *Report) lossy() Marks {
	list := map[string]string{}
	for _, f := range r.Failures {
		for i := range f.Cases {
			if c := &f.Cases[i]; !c.Whole() {
				list[c.Failure] = "without it: " + loss(c)
			}
		}
	}
	return Marks{Things: list, Means: "traffic is lost without it"}
}

func loss(c *sim.Reach) string {
	var parts []string
	if c.Cut > 0 {
		parts = append(parts, fabric.Number(c.Cut)+" pairs cut")
	}
	if c.Partly > 0 {
		parts = append(parts, fmt.Sprintf("%s pairs lose up to %.0f %%", fabric.Number(c.Partly), 100*c.Worst))
	}
	return strings.Join(append(parts, c.Restless...), ", ")
}

// SVG is the topology.
func (r *Report) SVG() string { return Topology(r.Design, r.lossy()) }

// HTML is the report.
func (r *Report) HTML() string {
	var b strings.Builder
	g := r.Design
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<title>%s</title>\n<style>%s%s</style>\n</head>\n<body>\n", escape(g.Metadata.Name), pageStyle, style)
	fmt.Fprintf(&b, "<h1>%s</h1>\n<p>%s</p>\n<p class=\"verdict\">%s</p>\n", escape(g.Metadata.Name), escape(strings.TrimPrefix(g.Summary(), g.Metadata.Name+": ")), escape(r.verdict()))
	b.WriteString(topologyOf(g, r.lossy()).svg(false, g.Summary()))
	r.findings(&b)
	r.tables(&b)
	r.failures(&b)
	if r.Growth != nil {
		b.WriteString("<h2>Growth</h2>\n")
		b.WriteString(growth(r.Growth).svg(false, "growth against limits"))
		switch {
		case r.Growth.First > 0:
			fmt.Fprintf(&b, "<p>The first limit is at %s racks: %s.</p>\n", fabric.Number(r.Growth.First), escape(strings.Join(r.Growth.Limits, "; ")))
		case !r.Growth.Known:
			b.WriteString("<p>Nothing is said of what the switches hold: the line is the usual limit.</p>\n")
		}
	}
	b.WriteString("</body>\n</html>\n")
	return b.String()
}

const pageStyle = `
body{font:14px/1.45 system-ui,sans-serif;color:#1c2430;max-width:1120px;margin:24px auto;padding:0 16px}
h1{font-size:22px;margin:0}h2{font-size:17px;margin:28px 0 8px}
svg{max-width:100%;height:auto}
table{border-collapse:collapse;font-size:13px;width:100%}
th{text-align:left;font-weight:600;border-bottom:1px solid #8a97a6}
th,td{padding:3px 12px 3px 0;vertical-align:top}td{border-bottom:1px solid #e3e8ed}
.n{text-align:right}.verdict{font-weight:600}
.error,.advanced,.bad{color:#b71c1c;font-weight:600}.warning{color:#9a5b00;font-weight:600}.good{color:#2f7a50}
code{background:#f4f6f8;padding:1px 4px;border-radius:3px}
`

func (r *Report) verdict() string {
	n := map[check.Severity]int{}
	for _, f := range r.Findings {
		n[f.Severity]++
	}
	lossy, cases := 0, 0
	for _, f := range r.Failures {
		for i := range f.Cases {
			cases += f.Cases[i].Cases
			if !f.Cases[i].Whole() {
				lossy += f.Cases[i].Cases
			}
		}
	}
	health := "healthy, every server reaches every other"
	if len(r.Failures) < len(r.Design.Families) {
		health = "not simulated"
	}
	for _, f := range r.Failures {
		if h := &f.Healthy; !h.Whole() {
			health = "BROKEN with nothing failed: " + loss(h)
		}
	}
	return fmt.Sprintf("%s; %s of %s single failures lose traffic; %s, %s", health, fabric.Number(lossy), fabric.Number(cases), fabric.Amount(n[check.Error]+n[check.Advanced], "error"), fabric.Amount(n[check.Warning], "warning"))
}

// table writes one. Cells are HTML, heads are text.
func table(b *strings.Builder, heads []string, rows [][]string) {
	b.WriteString("<table>\n<tr>")
	for _, h := range heads {
		fmt.Fprintf(b, "<th>%s</th>", escape(h))
	}
	b.WriteString("</tr>\n")
	for _, r := range rows {
		b.WriteString("<tr>")
		for _, c := range r {
			b.WriteString("<td>" + c + "</td>")
		}
		b.WriteString("</tr>\n")
	}
	b.WriteString("</table>\n")
}

func (r *Report) findings(b *strings.Builder) {
	b.WriteString("<h2>Findings</h2>\n")
	var rows [][]string
	infos := 0
	for _, f := range r.Findings {
		if f.Severity == check.Info {
			infos++
			continue
		}
		var fix strings.Builder
		for _, l := range f.Fix {
			fmt.Fprintf(&fix, "<code>%s</code><br/>", escape(l))
		}
		rows = append(rows, []string{fmt.Sprintf(`<span class="%s">%s</span>`, f.Severity, f.Severity), escape(f.ID),
			escape(f.Message) + "<br/>" + escape(f.Why), fix.String()})
	}
	if rows == nil {
		fmt.Fprintf(b, "<p class=\"good\">Nothing is to be mended; %d more are for information.</p>\n", infos)
		return
	}
	table(b, []string{"severity", "rule", "what and why", "fix"}, rows)
	fmt.Fprintf(b, "<p>%d more are for information.</p>\n", infos)
}

func (r *Report) tables(b *strings.Builder) {
	x := r.Design.Index()
	list, _, updates, err := sim.Entries(x)
	if err != nil {
		return
	}
	b.WriteString("<h2>Tables</h2>\n")
	var rows [][]string
	for i := range list {
		e := &list[i]
		fill := "not known"
		if e.Holds > 0 {
			c := &canvas{w: 240, h: 14}
			c.bar(1, 2, 238, 10, e)
			fill = c.svg(false, fmt.Sprintf("%d %%", 100*e.Used/int(e.Holds)))
			fill += fmt.Sprintf("%s of %s, %d %%", fabric.Number(e.Used), fabric.Number(int(e.Holds)), 100*e.Used/int(e.Holds))
			if e.Grown > e.Used {
				fill += fmt.Sprintf("; %d %% with growth", 100*e.Grown/int(e.Holds))
			}
		}
		paths := fabric.Number(e.Paths)
		if e.UpTo {
			paths = "up to " + paths
		}
		rows = append(rows, []string{escape(e.Device), fabric.Number(e.Devices), string(e.Role), fabric.Number(e.Peers), paths, fabric.Number(e.Routes), fabric.Number(int((e.Memory+5e5)/1e6)) + " MB", fill})
	}
	table(b, []string{"device", "devices", "role", "peers", "paths", "endpoint routes", "bgpd", "table"}, rows)
	fmt.Fprintf(b, "<p>%s.</p>\n", x.UpdateCost(updates))
}

// maxCases bounds the table of failures.
const maxCases = 40

func (r *Report) failures(b *strings.Builder) {
	b.WriteString("<h2>Single failures</h2>\n")
	var rows [][]string
	for _, f := range r.Failures {
		cases := sim.Alike(f.Cases)
		slices.SortStableFunc(cases, func(x, y sim.Reach) int { return cmp.Compare(2*y.Cut+y.Partly, 2*x.Cut+x.Partly) })
		for i := range cases {
			c := &cases[i]
			if len(rows) == maxCases {
				break
			}
			result := `<span class="good">nothing is lost</span>`
			if !c.Whole() {
				result = fmt.Sprintf(`<span class="bad">%s</span>`, escape(loss(c)))
				if c.At != "" {
					result += escape(fmt.Sprintf(" at %s: %s", c.At, c.Why))
				}
			}
			apart := ""
			if c.Apart > 0 {
				apart = fabric.Number(c.Apart)
			}
			rows = append(rows, []string{string(f.Family), escape(c.Failure), fabric.Number(c.Cases - 1), result, apart, c.Noticed()})
		}
	}
	table(b, []string{"family", "failure", "and like it", "servers that still have a way to each other", "pairs without a way", "noticed"}, rows)
}
