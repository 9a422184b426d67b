// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"fmt"
	"html"
	"math"
	"strings"
	"unicode"
)

// canvas is an SVG while it is drawn.
type canvas struct {
	b strings.Builder
	w float64
	h float64
}

func (c *canvas) printf(format string, v ...any) { fmt.Fprintf(&c.b, format+"\n", v...) }

// line is a line of a class of the style sheet, with a title that is shown when it is pointed at; without one if that is empty.
func (c *canvas) line(x1, y1, x2, y2 float64, class, title string) {
	c.printf(`<path class="%s" d="M%.0f %.0fL%.0f %.0f">%s</path>`, class, x1, y1, x2, y2, titleOf(title))
}

func (c *canvas) rect(x, y, w, h float64, class, fill, title string) {
	if fill != "" {
		fill = fmt.Sprintf(` style="fill:%s"`, fill)
	}
	c.printf(`<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="3"%s>%s</rect>`, class, x, y, w, h, fill, titleOf(title))
}

// text is text around or from x, cut to what fits into so many pixels (0: all).
func (c *canvas) text(x, y float64, class, s string, room float64) {
	const wide = 6.1 // of a character, on average
	if n := int(room / wide); room > 0 && len([]rune(s)) > n {
		s = string([]rune(s)[:max(0, n-1)]) + "…"
	}
	c.printf(`<text class="%s" x="%.1f" y="%.1f">%s</text>`, class, x, y, escape(s))
}

// dot is where a line ends on what it could also pass by.
func (c *canvas) dot(x, y float64, class string) {
	c.printf(`<circle class="%s" cx="%.0f" cy="%.0f" r="2.5" style="fill:#fff"/>`, class, x, y)
}

// escape makes text of whatever names are: of characters that XML has, with those that mean something in it written out.
func escape(s string) string {
	return html.EscapeString(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
			return unicode.ReplacementChar
		}
		return r
	}, s))
}

func titleOf(s string) string {
	if s == "" {
		return ""
	}
	return "<title>" + escape(s) + "</title>"
}

// style is of both files. Colours are chosen so that they are told apart in grey, too.
const style = `
svg{font-family:system-ui,sans-serif}
text{fill:#1c2430;font-size:11px}
.m{text-anchor:middle}.e{text-anchor:end}
.r{font-weight:600;paint-order:stroke;stroke:#f4f6f8;stroke-width:4px}.p{font-size:10px;fill:#44505f;paint-order:stroke;stroke:#dfe5ec;stroke-width:4px}
.b{font-weight:600}.s{font-size:10px;fill:#44505f}.t{font-size:15px;font-weight:600}
.box{stroke:#5b6878;stroke-width:1}
.rack{fill:#f4f6f8;stroke:#c9d1da}
.plane{fill:#dfe5ec;stroke:#8a97a6}
.ebgp{stroke:#33475b;stroke-width:1.3;fill:none}
.ibgp{stroke:#8fb3d9;stroke-width:1.3;fill:none}
.lossy{stroke:#c62828;stroke-width:2;stroke-dasharray:6 4;fill:none}
.track{fill:#fff;stroke:#8a97a6;stroke-width:.6}
.ok{fill:#3d8f5f}.warn{fill:#d9932a}.over{fill:#c62828}
.axis{stroke:#8a97a6;fill:none}.grid{stroke:#e3e8ed;fill:none}
.limit{stroke:#c62828;stroke-dasharray:7 4;fill:none}
.c0{stroke:#1f5fa8;stroke-width:2;fill:none}.c1{stroke:#2f8a57;stroke-width:2;fill:none}.c2{stroke:#9a5fb5;stroke-width:2;fill:none}
`

// svg is the finished picture; alone, it brings its style sheet.
func (c *canvas) svg(alone bool, title string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img">`+"\n", c.w, c.h, c.w, c.h)
	fmt.Fprintf(&b, "<title>%s</title>\n", escape(title))
	if alone {
		fmt.Fprintf(&b, "<style>%s</style>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", style)
	}
	b.WriteString(c.b.String())
	b.WriteString("</svg>\n")
	return b.String()
}

// colour is of the n-th AS: hues a golden angle apart, so that neighbours differ most.
func colour(n int) string {
	hue := math.Mod(float64(n)*137.508, 360)
	return fmt.Sprintf("hsl(%.0f,58%%,%d%%)", hue, 84-n/8%3*7)
}
