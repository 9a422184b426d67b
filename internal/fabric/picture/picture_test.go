// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

func read(t *testing.T, spec string) *fabric.Fabric {
	t.Helper()
	for _, field := range []string{"racks: {count: 3}", "servers: {perRack: 2}", "endpoints: {perServer: 2}"} {
		name, _, _ := strings.Cut(field, ":")
		if !strings.Contains(spec, name+": {") && !strings.Contains(spec, name+": [") {
			spec += ", " + field
		}
	}
	doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {" + spec + "}"))
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	return doc.Fabric
}

const manyRacks = "model: downward-default, racks: {count: 300}, servers: {perRack: 40}, endpoints: {perServer: 100, growth: {percentPerYear: 40, years: 2}}, " +
	"pools: {endpoints: [{cidr: 10.0.0.0/8}], links: [172.16.0.0/12], loopbacks: [192.168.0.0/16]}, switches: {tor: {lpmTable: 16k}, spine: {lpmTable: 2m}}"

// specs are fabrics of each shape and size.
var specs = map[string]string{
	"rack":        "model: as-per-rack, spine: {as: unique}, switches: {tor: {hostTable: 16k, hostRoutesIn: host}}",
	"rack isl":    "model: as-per-rack, racks: {count: 3, tors: 2}, tors: {isl: true}, families: [ipv4, ipv6]",
	"rack mesh":   "model: as-per-rack, inRack: {sessions: mesh}, servers: {perRack: 9}",
	"reflector":   "model: as-per-rack, inRack: {reflector: standalone}",
	"server":      "model: as-per-server, racks: {count: 24, tors: 2}, spine: {count: 3}, border: [{name: b1, as: 64999, default: true}]",
	"planes":      "model: as-per-server, spine: {kind: l2, count: 5}, racks: {count: 25}",
	"lossy":       "model: downward-default, downwardDefault: {fallback: none}",
	"ethernet":    "model: ethernet, racks: {count: 7}, border: [{name: b1, as: 64999, default: true}]",
	"unlike":      "model: as-per-rack, racks: [{name: big, servers: 30}, {name: small, servers: 1, tors: 2}]",
	"many racks":  manyRacks,
	"many spines": "model: as-per-rack, spine: {count: 12}",
}

// wellFormed reads XML to its end, and returns what stands in it.
func wellFormed(t *testing.T, name, text string) (elements []xml.StartElement) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	d.Strict = true
	d.Entity = map[string]string{}
	for {
		token, err := d.Token()
		if err == io.EOF {
			return elements
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if e, ok := token.(xml.StartElement); ok {
			elements = append(elements, e.Copy())
		}
	}
}

func attribute(t *testing.T, e xml.StartElement, name string) float64 {
	t.Helper()
	for _, a := range e.Attr {
		if a.Name.Local == name {
			v, err := strconv.ParseFloat(a.Value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// box tells whether an element is that of a device.
func box(e xml.StartElement) bool {
	for _, a := range e.Attr {
		if a.Name.Local == "class" && strings.HasPrefix(a.Value, "box") {
			return true
		}
	}
	return false
}

// TestPictures: of every shape and size they are well formed, load and run nothing, are as small as they should be, and
// no device is drawn over another or outside.
func TestPictures(t *testing.T) {
	for name, spec := range specs {
		f := read(t, spec)
		r := New(f.Design(), f)
		page, picture := r.HTML(), r.SVG()
		if name == "rack" && picture != New(f.Design(), f).SVG() {
			t.Errorf("%s: two pictures of one design differ", name)
		}
		for _, text := range []string{page, picture} {
			wellFormed(t, name, text)
			if n := len(text); n > 60_000 {
				t.Errorf("%s: %d octets", name, n)
			}
			if bad := regexp.MustCompile(`(?i)<script|href=|src=|url\(|@import|NaN|Inf\b`).FindString(text); bad != "" {
				t.Errorf("%s: %q in it", name, bad)
			}
		}
		type area struct{ x, y, w, h float64 }
		var boxes []area
		var wide, high float64
		for _, e := range wellFormed(t, name, picture) {
			if e.Name.Local == "svg" {
				wide, high = attribute(t, e, "width"), attribute(t, e, "height")
			}
			if !box(e) {
				continue
			}
			a := area{attribute(t, e, "x"), attribute(t, e, "y"), attribute(t, e, "width"), attribute(t, e, "height")}
			if a.x < 0 || a.y < 0 || a.x+a.w > wide || a.y+a.h > high {
				t.Errorf("%s: %+v is outside of %v × %v", name, a, wide, high)
			}
			for _, b := range boxes {
				if a.x < b.x+b.w && b.x < a.x+a.w && a.y < b.y+b.h && b.y < a.y+a.h {
					t.Errorf("%s: %+v is over %+v", name, a, b)
				}
			}
			boxes = append(boxes, a)
		}
		if len(boxes) < 3 || high > 1600 {
			t.Errorf("%s: %d devices on %v", name, len(boxes), high)
		}
	}
}

// TestLinesBesideBoxes: the line to a server that is drawn below another one does not pass behind it, as if the two were
// connected.
func TestLinesBesideBoxes(t *testing.T) {
	for _, spec := range []string{"model: as-per-rack, servers: {perRack: 5}", "model: as-per-server, racks: {count: 6}, servers: {perRack: 4}"} {
		f := read(t, spec)
		type area struct{ x, y, w, h float64 }
		var boxes []area
		var paths []string
		for _, e := range wellFormed(t, spec, New(f.Design(), f).SVG()) {
			if box(e) {
				boxes = append(boxes, area{attribute(t, e, "x"), attribute(t, e, "y"), attribute(t, e, "width"), attribute(t, e, "height")})
			}
			if e.Name.Local == "path" && strings.HasSuffix(e.Attr[0].Value, "bgp") {
				paths = append(paths, e.Attr[1].Value)
			}
		}
		elbows := 0
		for _, path := range paths {
			var x, y float64
			for _, m := range regexp.MustCompile(`([MLVH])([0-9.]+)(?: ([0-9.]+))?`).FindAllStringSubmatch(path, -1) {
				toX, toY := x, y
				first, err := strconv.ParseFloat(m[2], 64)
				if err != nil {
					t.Fatal(err)
				}
				switch m[1] {
				case "V":
					toY = first
					elbows++
				case "H":
					toX = first
				default:
					toX = first
					if toY, err = strconv.ParseFloat(m[3], 64); err != nil {
						t.Fatal(err)
					}
				}
				for part := 0.0; m[1] != "M" && part <= 1; part += .01 {
					px, py := x+(toX-x)*part, y+(toY-y)*part
					for _, b := range boxes {
						if px > b.x+1 && px < b.x+b.w-1 && py > b.y+1 && py < b.y+b.h-1 {
							t.Fatalf("%s: line %s is behind the box %+v", spec, path, b)
						}
					}
				}
				x, y = toX, toY
			}
		}
		if elbows == 0 {
			t.Errorf("%s: no server is below another", spec)
		}
	}
}

// TestHand: a design that was written by hand has a picture whatever its names are.
func TestHand(t *testing.T) {
	g := read(t, specs["rack"]).Design()
	g.Model, g.Metadata.Name = "", `a<b>&"'`
	for i := range g.Devices {
		switch g.Devices[i].Rack {
		case "r0":
			g.Devices[i].Rack = `<script>alert("r0")</script>`
		case "r1":
			g.Devices[i].Rack = "\x00\x1b[31mr1\ufffe\xff"
		}
	}
	r := New(g, nil)
	wellFormed(t, "by hand", r.SVG())
	wellFormed(t, "by hand", r.HTML())
	if strings.Contains(r.HTML(), "<script") {
		t.Error("a name is not escaped")
	}
	for i := range g.Devices {
		for j := range g.Devices[i].Interfaces {
			g.Devices[i].Interfaces[j].Segment = ""
		}
	}
	if page := New(g, nil).HTML(); !strings.Contains(page, "FAB-") {
		t.Error("a broken design has no findings")
	}
}

// TestStory is the picture of few racks, that of many, and a report.
func TestStory(t *testing.T) {
	drawings := map[string]func() string{
		"few.svg":    func() string { f := read(t, specs["rack"]); return New(f.Design(), f).SVG() },
		"many.svg":   func() string { f := read(t, manyRacks); return New(f.Design(), f).SVG() },
		"lossy.html": func() string { f := read(t, specs["lossy"]); return New(f.Design(), f).HTML() },
	}
	// The pictures of the pages about models.
	for _, m := range fabric.Models {
		spec := "model: " + string(m) + ", switches: {tor: {hostTable: 16k, hostRoutesIn: host}, spine: {lpmTable: 128k}}, endpoints: {perServer: 1000}"
		if m == fabric.Ethernet {
			spec = "model: ethernet, endpoints: {perServer: 1000}"
		}
		drawings["../../../../docs/fabric-"+string(m)+".svg"] = func() string { f := read(t, spec); f.Metadata.Name = string(m); return New(f.Design(), f).SVG() }
	}
	for file, draw := range drawings {
		got, file := draw(), filepath.Join("testdata", file)
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs; UPDATE=1 writes it:\n%s", file, got)
		}
	}
	report, err := os.ReadFile("testdata/lossy.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{"FAB-DD-001", "downwardDefault: {fallback: inter-spine}", "8 pairs lose up to 50 %", `class="lossy"`, "AS 64513", "usual limit 128,000"} {
		if !strings.Contains(string(report), says) {
			t.Errorf("the report does not say %q", says)
		}
	}
}

// FuzzPictures: whatever a person writes as a design that can be read has a picture and a report, both well
// formed, and nothing panics.
func FuzzPictures(f *testing.F) {
	for _, spec := range []string{"model: as-per-rack, racks: {count: 1}", "model: ethernet, racks: {count: 1}", "model: downward-default, racks: {count: 1, tors: 2}, downwardDefault: {fallback: dual-tor}"} {
		doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {servers: {perRack: 1}, endpoints: {perServer: 1}, " + spec + "}"))
		if err != nil {
			f.Fatal(err)
		}
		text, err := json.Marshal(doc.Fabric.Design())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 1<<15 {
			return
		}
		doc, err := fabric.Parse(input)
		if err != nil || doc.Design == nil || len(doc.Design.Devices) > 64 {
			return
		}
		r := New(doc.Design, nil)
		wellFormed(t, "picture", r.SVG())
		wellFormed(t, "report", r.HTML())
	})
}
