// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

var vendors = []Target{EOS, Junos, NXOS, SONiC}

// TestVendors: what no parser here reads is at least whole: each session is in it with its
// AS number, every filter that is used is defined, no two statements contradict each other by
// having an own line each, and the header says that it was not run. What is refused is
// refused in words.
func TestVendors(t *testing.T) {
	refused := map[Target]string{}
	for name, spec := range specs {
		g := design(t, spec, "ipv4, ipv6")
		e, _ := New(g)
		for i := range g.Devices {
			d := &g.Devices[i]
			for _, target := range vendors {
				if !e.Means(target, d) {
					continue
				}
				text, err := e.Device(d, target)
				if err != nil {
					refused[target] += name + ": " + err.Error() + "\n"
					continue
				}
				if first, _, _ := strings.Cut(text, "\n"); !strings.Contains(first, "it was not run on a device") && (target != SONiC || !strings.Contains(text, "it was not run on a device")) {
					t.Errorf("%s, %s, %s: the header does not say that it was not run", name, d.Name, target)
				}
				for _, p := range e.peers(d) {
					for _, a := range p.Address {
						if !strings.Contains(text, a.String()) {
							t.Errorf("%s, %s, %s: no session with %s", name, d.Name, target, a)
						}
					}
				}
				for _, use := range regexp.MustCompile(`(?m)(?:prefix-list|route-map) (\S+) (?:in|out)$`).FindAllStringSubmatch(text, -1) {
					if !regexp.MustCompile(`(?m)^(?:ipv?6? ?prefix-list|ip prefix-list|route-map) ` + regexp.QuoteMeta(use[1]) + `\b`).MatchString(text) {
						t.Errorf("%s, %s, %s: %q is used and not defined", name, d.Name, target, use[1])
					}
				}
				for _, use := range regexp.MustCompile(`(?m)(?:import|export) \[ (.*) \]$`).FindAllStringSubmatch(text, -1) {
					for policy := range strings.FieldsSeq(use[1]) {
						if !strings.Contains(text, "policy-statement "+policy+" ") {
							t.Errorf("%s, %s, %s: %q is used and not defined", name, d.Name, target, policy)
						}
					}
				}
				if target == SONiC {
					var tables map[string]map[string]map[string]string
					if err := json.Unmarshal([]byte(text), &tables); err != nil || len(tables["BGP_NEIGHBOR"]) == 0 {
						t.Errorf("%s, %s: %v\n%s", name, d.Name, err, text)
					}
				}
			}
		}
	}
	for target, want := range map[Target][]string{
		EOS: {"rack planes: r0-t0: a role (RFC 9234"}, NXOS: {"rack unique: spine0: a role"},
		Junos: {"unnumbered: r0-t0: sessions without addresses"}, SONiC: {"unnumbered: r0-t0: sessions without addresses"},
	} {
		for _, w := range want {
			if !strings.Contains(refused[target], w) {
				t.Errorf("%s refuses %s", target, refused[target])
			}
		}
		if n := strings.Count(refused[target], "\n"); n > 40 {
			t.Errorf("%s refuses %d configurations:\n%s", target, n, refused[target])
		}
	}
}

// TestVendorStory is what a ToR gets on each of the systems.
func TestVendorStory(t *testing.T) {
	g := design(t, "model: as-per-rack, racks: {count: 2, tors: 2}, tors: {isl: true}", "ipv4, ipv6")
	e, _ := New(g)
	for _, target := range vendors {
		text, err := e.Device(g.Index().Device("r0-t0"), target)
		if err != nil {
			t.Fatal(err)
		}
		asWritten(t, "r0-t0."+string(target), text)
	}
}

// TestRackBlocks: a ToR that announces the block of its rack tells servers of the rack what is in it, and the others the block alone.
func TestRackBlocks(t *testing.T) {
	g := design(t, "model: as-per-rack, endpoints: {perServer: 4, announce: rack-block}", "ipv4, ipv6")
	e, _ := New(g)
	d := g.Index().Device("r0-t0")
	inside, outside := "", ""
	for _, p := range e.peers(d) {
		if g.Index().Device(p.Name).Rack == d.Rack {
			inside = p.Profile.Name
		} else {
			outside = p.Profile.Name
		}
	}
	var block string
	for _, o := range d.Originate {
		if o.Kind == fabric.OriginRack && o.Prefix.Addr().Is4() {
			block = o.Prefix.String()
		}
	}
	for target, want := range map[Target]struct{ is, not []string }{
		EOS: {[]string{"aggregate-address " + block + "\n", `ip prefix-list outside-` + outside + `\n +seq 5 deny ` + block + ` ge \d+ le 32\n`,
			"neighbor " + outside + "-4 prefix-list outside-" + outside + " out", "neighbor " + outside + "-6 prefix-list outside-" + outside + " out"},
			[]string{"summary-only", "neighbor " + inside + "-[46] prefix-list outside"}},
		NXOS: {[]string{"aggregate-address " + block + " summary-only", "route-map everything permit 10",
			"template peer " + inside + "-4\n(    .*\n)*      unsuppress-map everything\n", "template peer " + inside + "-6\n(    .*\n)*      unsuppress-map everything\n"},
			[]string{"template peer " + outside + "-[46]\n(    .*\n)*      unsuppress-map everything\n"}},
		Junos: {[]string{"policy-statement outside term inside-inet from route-filter " + block + " longer", "policy-statement outside term inside-inet then reject",
			"group " + outside + `-4 export \[ (.* )?outside announced `, "group " + outside + `-6 export \[ (.* )?outside announced `, "group " + inside + `-4 export \[ (.* )?announced `},
			[]string{"policy-statement announced term inside", "group " + inside + `-[46] export \[ .*outside announced`}},
	} {
		text, err := e.Device(d, target)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want.is {
			if !regexp.MustCompile(w).MatchString(text) {
				t.Errorf("%s lacks %q:\n%s", target, w, text)
			}
		}
		for _, w := range want.not {
			if regexp.MustCompile(w).MatchString(text) {
				t.Errorf("%s has %q:\n%s", target, w, text)
			}
		}
	}
}

// TestGoBGPAccepts: gobgpd reads what is written for it, and sees a mistake.
func TestGoBGPAccepts(t *testing.T) {
	need(t, "gobgpd")
	read := func(text string) ([]byte, error) {
		file := filepath.Join(t.TempDir(), "gobgpd.toml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return exec.Command("gobgpd", "-d", "-f", file).CombinedOutput()
	}
	n, last := 0, ""
	for name, spec := range specs {
		if name == "unnumbered" || strings.Contains(spec, "roles: on") {
			continue
		}
		if strings.Contains(spec, "bgp: {") {
			spec = strings.Replace(spec, "bgp: {", "bgp: {roles: off, bfd: {segment: off, planes: off, links: off}, ", 1)
		} else {
			spec += ", bgp: {roles: off, bfd: {segment: off, planes: off, links: off}}"
		}
		g := design(t, spec, "ipv4, ipv6")
		e, _ := New(g)
		seen := map[fabric.Role]bool{}
		for i := range g.Devices {
			d := &g.Devices[i]
			if seen[d.Role] || d.Role == fabric.RoleServer {
				continue
			}
			seen[d.Role] = true
			text, err := e.Device(d, GoBGP)
			if err != nil {
				if !strings.Contains(err.Error(), "a default route for a peer") && !strings.Contains(err.Error(), "makes no aggregates") &&
					!strings.Contains(err.Error(), "(ownOnly) is not written for GoBGP") {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			if out, err := read(text); err != nil || strings.Contains(string(out), "level=fatal") {
				t.Fatalf("%s, %s: %v\n%s\n%s", name, d.Name, err, out, numbered(text))
			}
			n, last = n+1, text
		}
	}
	if n < 15 {
		t.Errorf("only %d configurations", n)
	}
	if _, err := read(strings.Replace(last, "router-id", "router-idd", 1)); err == nil {
		t.Error("gobgpd takes anything")
	}
}

// TestSymbol: ports of all vendors have names that BIRD takes.
func TestSymbol(t *testing.T) {
	if s := symbol("xe-0/0/1:2.100"); s != "xe_0_0_1_2_100" {
		t.Error(s)
	}
}
