// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/fabric"
)

// specs are fabrics that use every setting that is written out.
var specs = map[string]string{
	"rack":           "model: as-per-rack, border: [{name: b1, as: 64999, default: true}]",
	"rack unique":    "model: as-per-rack, spine: {as: unique}, bgp: {authentication: md5}",
	"rack dual":      "model: as-per-rack, racks: {count: 2, tors: 2}, tors: {isl: true}",
	"rack blocks":    "model: as-per-rack, endpoints: {perServer: 4, announce: rack-block}",
	"rack mesh":      "model: as-per-rack, inRack: {sessions: mesh}, bgp: {maxPrefix: restart}",
	"rack reflector": "model: as-per-rack, inRack: {reflector: standalone}",
	"rack planes":    "model: as-per-rack, spine: {kind: l2}, bgp: {roles: on}, border: [{name: b1, as: 64999, default: true}]",
	"server":         "model: as-per-server, anycast: [{ip: 192.168.99.1, servers: [r0/s0, r1/s1]}]",
	"unnumbered":     "model: as-per-server, servers: {perRack: 2, uplinks: unnumbered}",
	"transit":        "model: as-per-server, spine: {kind: l2}, tors: {as: shared}",
	"default":        "model: downward-default, endpoints: {perServer: 4, announce: server-block}",
	"override":       "model: downward-default, downwardDefault: {asOverride: true}",
	"overrides":      "model: as-per-rack, overrides: {devices: [{name: spine1, as: 65001}], sessions: [{on: r0-t0, with: spine0, set: {localPref: 200}}]}",
	"exceptions":     "model: downward-default, endpoints: {perServer: 4, announce: server-block}, downwardDefault: {exceptions: 9}",
	"default planes": "model: downward-default, spine: {kind: l2}",
	"default dual":   "model: downward-default, racks: {count: 2, tors: 2}",
	"server dual":    "model: as-per-server, racks: {count: 2, tors: 2}, spine: {kind: l2}",
	"ethernet":       "model: ethernet, border: [{name: b1, as: 64999, default: true}]",
	"add-path":       "model: ethernet, routeReflectors: {placement: all-planes, addPath: true}",
	"machines":       "model: as-per-rack, machines: [{name: db, rack: r0, addresses: 2, software: bird}, {name: lb, rack: r0, as: 65100, attach: port}, {name: fw, rack: r1, routing: static, addresses: 3}]",
	"ethernet mesh":  "model: ethernet, routeReflectors: {placement: none}, border: [{name: b1, as: 64999, default: true}], machines: [{name: db, rack: r0, addresses: 2}, {name: lb, rack: r1, software: bird}]",
}

func design(t *testing.T, spec string, families string) *fabric.Design {
	t.Helper()
	if !strings.Contains(families, "ipv4") {
		spec = strings.Replace(spec, "192.168.99.1", "fd00:99::1", 1)
	}
	for _, field := range []string{"racks: {count: 2}", "servers: {perRack: 2}", "endpoints: {perServer: 4}"} {
		name, _, _ := strings.Cut(field, ":")
		if !strings.Contains(spec, name+": {") {
			spec += ", " + field
		}
	}
	doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {" + spec + ", families: [" + families + "]}"))
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	return doc.Fabric.Design()
}

// parsers are the programs' own checks of a configuration.
var parsers = map[Target]func(file string) *exec.Cmd{
	FRR:  func(file string) *exec.Cmd { return exec.Command("vtysh", "-C", "-f", file) },
	BIRD: func(file string) *exec.Cmd { return exec.Command("bird", "-p", "-c", file) },
}

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("MUSLIN_REQUIRE_ROOT") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// TestParsersAccept: the programs read what is written for them: one device of
// each role of each fabric, in each family.
func TestParsersAccept(t *testing.T) {
	for target, program := range map[Target]string{FRR: "vtysh", BIRD: "bird"} {
		t.Run(string(target), func(t *testing.T) {
			need(t, program)
			n := 0
			for name, spec := range specs {
				several := []string{"ipv4, ipv6"}
				if name == "rack" || target == BIRD {
					several = append(several, "ipv4", "ipv6")
				}
				for _, families := range several {
					g := design(t, spec, families)
					e, err := New(g)
					if err != nil {
						t.Fatal(err)
					}
					seen := map[fabric.Role]bool{}
					for i := range g.Devices {
						d := &g.Devices[i]
						if seen[d.Role] || target == FRR && (d.Role == fabric.RoleServer || d.Role == fabric.RoleReflector) {
							continue
						}
						seen[d.Role] = true
						text, err := e.Device(d, target)
						if err != nil {
							if target == BIRD && (name == "override" || name == "rack blocks") {
								continue // BIRD has no such thing, and it is said
							}
							t.Errorf("%s, %s, %s: %v", name, families, d.Name, err)
							continue
						}
						file := filepath.Join(t.TempDir(), "config")
						if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
							t.Fatal(err)
						}
						n++
						if out, err := parsers[target](file).CombinedOutput(); err != nil {
							t.Errorf("%s, %s, %s: %v\n%s\n%s", name, families, d.Name, err, out, numbered(text))
							return
						}
					}
				}
			}
			if n < 25 {
				t.Errorf("only %d configurations", n)
			}
		})
	}
}

func numbered(text string) string {
	var b strings.Builder
	for i, l := range strings.Split(text, "\n") {
		fmt.Fprintf(&b, "%3d %s\n", i+1, l)
	}
	return b.String()
}

// TestParsersRefuse: the checks do see a mistake.
func TestParsersRefuse(t *testing.T) {
	for target, program := range map[Target]string{FRR: "vtysh", BIRD: "bird"} {
		need(t, program)
		g := design(t, specs["rack"], "ipv4")
		e, _ := New(g)
		text, err := e.Device(&g.Devices[0], target)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(file, []byte(text+"protocol bpg x {\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if parsers[target](file).Run() == nil {
			t.Errorf("%s takes anything", target)
		}
	}
}

// TestVRouter: what is written for vRouters are valid resources, each session of
// the design is there once, and a server's own file is short: below 60 lines for four
// sessions, in whatever families they are.
func TestVRouter(t *testing.T) {
	for name, spec := range specs {
		for _, families := range []string{"ipv4", "ipv6", "ipv4, ipv6"} {
			g := design(t, spec, families)
			e, _ := New(g)
			common, err := e.Common()
			if err != nil {
				t.Fatal(name, err)
			}
			texts := []string{common}
			want := 0 // sessions of servers and reflectors
			for i := range g.Devices {
				if e.Target(&g.Devices[i]) == VRouter {
					text, err := e.Device(&g.Devices[i], VRouter)
					if err != nil {
						t.Fatal(name, err)
					}
					texts = append(texts, text)
					lines := strings.Count(text, "\n") - strings.Count(text, "#")
					d := &g.Devices[i]
					for _, p := range e.peers(d) {
						want += max(1, len(p.Address))
					}
					if own := strings.Count(text, "kind: BGPPeer"); d.Role == fabric.RoleServer && own <= 4 && lines >= 60 {
						t.Errorf("%s, %s: %d lines for %d sessions\n%s", name, families, lines, own, text)
					}
				}
			}
			all, err := v3.Decode([]byte(strings.Join(texts, "---\n")))
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			got := 0
			for _, r := range all {
				if p, ok := r.(*v3.BGPPeer); ok {
					switch selector := p.Spec.NodeSelector; {
					case selector == "":
						got++
					case selector == "has(rack)":
						got += strings.Count(strings.Join(texts, ""), "    rack: ")
					default:
						rack := strings.Trim(strings.TrimPrefix(selector, "rack == "), "'")
						got += strings.Count(strings.Join(texts, ""), "    rack: "+rack+"\n")
					}
				}
				if err := v3.Validate(r); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if got != want {
				t.Errorf("%s, %s: %d sessions, want %d", name, families, got, want)
			}
		}
	}
}

// TestNoRestart: graceful restart that is off in the file is off on servers.
func TestNoRestart(t *testing.T) {
	for field, want := range map[string]string{"off": "  maxRestartTime: 0s\n", "30s": "  maxRestartTime: 30s\n", "120s": ""} {
		e, _ := New(design(t, "model: as-per-rack, bgp: {gracefulRestart: {vrouter: "+field+"}}", "ipv4"))
		text, err := e.Common()
		if err != nil {
			t.Fatal(err)
		}
		if sessions := strings.Count(text, "kind: BGPPeer"); want != "" && strings.Count(text, want) != sessions || want == "" && strings.Contains(text, "maxRestartTime") {
			t.Errorf("%s: want %q in each of %d sessions:\n%s", field, want, sessions, text)
		}
	}
}

// asWritten compares with a file of testdata, which UPDATE=1 writes.
func asWritten(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != text {
		t.Errorf("%s differs; UPDATE=1 writes it:\n%s", file, text)
	}
}

// TestStory is what a ToR and a server of a small fabric get.
func TestStory(t *testing.T) {
	g := design(t, "model: as-per-rack", "ipv4")
	e, _ := New(g)
	for i := range g.Devices {
		d := &g.Devices[i]
		if d.Name != "r0-t0" && d.Name != "r0-s0" {
			continue
		}
		text, err := e.Device(d, e.Target(d))
		if err != nil {
			t.Fatal(err)
		}
		if d.Name == "r0-s0" {
			common, err := e.Common()
			if err != nil {
				t.Fatal(err)
			}
			text = common + "---\n" + text
		}
		asWritten(t, d.Name+"."+string(e.Target(d)), text)
	}
}
