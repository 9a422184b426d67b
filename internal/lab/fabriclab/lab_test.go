// SPDX-License-Identifier: Apache-2.0

package fabriclab

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

var full = flag.Bool("fabric.full", false, "boot every variant")

// muslin is the program under test, built once from this tree.
var muslin string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "muslin-fabriclab")
		if err == nil {
			muslin, err = labtest.Build(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		return m.Run()
	}())
}

// variant is a fabric of 3 racks with 2 servers and 2 endpoints each.
type variant struct {
	name   string
	spec   string          // fields beside those
	short  bool            // also in the ordinary tests
	daemon fabric.Software // of switches; empty: what the file says
}

// edges are a border, one public pool, and addresses that two servers have.
const edges = "border: [{name: b1, as: 64999, default: true}], " +
	"anycast: [{ip: 10.99.0.1, servers: [r0/s0, r1/s1]}, {ip: 'fd00:99::1', servers: [r0/s0, r1/s1]}], " +
	"pools: {endpoints: [{cidr: 10.64.0.0/12, external: nat}, {cidr: 'fd00:64::/48', external: advertise}]}"

var variants = []variant{
	{"rack L3", "model: as-per-rack, " + edges, true, fabric.FRR},
	{"rack L2", "model: as-per-rack, spine: {kind: l2}, border: [{name: b1, as: 64999, default: true}, {name: b2, as: 64999, default: true}], " +
		"pools: {endpoints: [{cidr: 10.64.0.0/12, external: advertise}, {cidr: 'fd00:64::/48', external: nat}]}", true, fabric.FRR},
	{"server L3", "model: as-per-server", true, fabric.FRR},
	{"server L2", "model: as-per-server, spine: {kind: l2}", true, fabric.FRR},
	{"default L3", "model: downward-default", true, fabric.FRR},
	{"default L2", "model: downward-default, spine: {kind: l2}", true, fabric.FRR},
	{"ethernet", "model: ethernet, anycast: [{ip: 10.199.0.1, servers: [r0/s0, r2/s0]}, {ip: 'fd00:99::1', servers: [r0/s0, r2/s0]}]", true, fabric.FRR},
	{"ethernet border", "model: ethernet, border: [{name: b1, as: 64999, default: true}, {name: b2, as: 64999, default: true}], " +
		"pools: {endpoints: [{cidr: 10.64.0.0/12, external: advertise}, {cidr: 'fd00:64::/48', external: nat}]}", false, fabric.FRR},
	{"unique spines", "model: as-per-rack, spine: {as: unique}", false, fabric.FRR},
	{"dual", "model: as-per-rack, racks: {count: 3, tors: 2}", false, fabric.FRR},
	{"rack mesh", "model: as-per-rack, inRack: {sessions: mesh}", false, fabric.FRR},
	{"rack reflectors", "model: as-per-rack, inRack: {sessions: reflector, reflector: server}", false, fabric.FRR},
	{"isl", "model: as-per-rack, racks: {count: 3, tors: 2}, tors: {isl: true}", false, fabric.FRR},
	{"unnumbered", "model: as-per-server, servers: {perRack: 2, uplinks: unnumbered}", false, fabric.FRR},
	{"server dual", "model: as-per-server, racks: {count: 3, tors: 2}", false, fabric.FRR},
	{"default dual", "model: downward-default, racks: {count: 3, tors: 2}, downwardDefault: {fallback: dual-tor}", false, fabric.FRR},
	{"default border", "model: downward-default, border: [{name: b1, as: 64999, default: true}], " +
		"pools: {endpoints: [{cidr: 10.64.0.0/12, external: nat}, {cidr: 'fd00:64::/48', external: advertise}]}", false, fabric.FRR},
	{"add-path", "model: ethernet, routeReflectors: {placement: all-planes, addPath: true}", false, fabric.FRR},
	{"reflected default", "model: ethernet, border: [{name: b1, as: 64999, default: true}], " +
		"anycast: [{ip: 10.199.0.1, servers: [r0/s0, r2/s0]}, {ip: 'fd00:99::1', servers: [r0/s0, r2/s0]}], " +
		"pools: {endpoints: [{cidr: 10.64.0.0/12, external: nat}, {cidr: 'fd00:64::/48', external: advertise}]}", false, fabric.FRR},
	{"ethernet mesh", "model: ethernet, routeReflectors: {placement: none}, border: [{name: b1, as: 64999, default: true}, {name: b2, as: 64999, default: true}], " +
		"pools: {endpoints: [{cidr: 10.64.0.0/12, external: advertise}, {cidr: 'fd00:64::/48', external: nat}]}", false, fabric.FRR},
	{"transit", "model: as-per-server, spine: {kind: l2}, tors: {as: shared}", false, fabric.FRR},
	{"machines", "model: as-per-rack, machines: [{name: db, rack: r0, addresses: 2}, {name: lb, rack: r1, attach: port, prefixes: [203.0.113.0/28]}, {name: fw, rack: r2, routing: static}]", false, fabric.FRR},
	{"machines dual", "model: as-per-rack, racks: {count: 3, tors: 2}, machines: [{name: db, rack: r0}, {name: fw, rack: r2, routing: static, attach: port, prefixes: [203.0.113.0/28]}]", false, fabric.FRR},
	{"blocks", "model: as-per-rack, endpoints: {perServer: 2, announce: server-block}", false, fabric.FRR},
	{"rack standalone", "model: as-per-rack, inRack: {reflector: standalone}", false, fabric.FRR},
	{"rack blocks", "model: as-per-rack, endpoints: {perServer: 2, announce: rack-block}", false, fabric.FRR},
	{"rack L2 dual", "model: as-per-rack, spine: {kind: l2}, racks: {count: 3, tors: 2}", false, fabric.FRR},
	{"server segment", "model: as-per-server, servers: {perRack: 2, uplinks: segment}", false, fabric.FRR},
	{"server unique", "model: as-per-server, spine: {as: unique}", false, fabric.FRR},
	{"unnumbered dual", "model: as-per-server, racks: {count: 3, tors: 2}, servers: {perRack: 2, uplinks: unnumbered}", false, fabric.FRR},
	{"server machines", "model: as-per-server, machines: [{name: db, rack: r0, addresses: 2}, {name: fw, rack: r2, routing: static, addresses: 2}]", false, fabric.FRR},
	{"default fallback", "model: downward-default, downwardDefault: {fallback: border}, border: [{name: b1, as: 64999, default: true}, {name: b2, as: 64998, default: true}], " +
		"pools: {endpoints: [{cidr: 10.64.0.0/12, external: nat}, {cidr: 'fd00:64::/48', external: advertise}]}", false, fabric.FRR},
	{"default override", "model: downward-default, downwardDefault: {asOverride: true}, bgp: {advanced: [{name: as-override, reason: anycast}]}, " +
		"anycast: [{ip: 192.168.99.1, servers: [r0/s0, r1/s1]}, {ip: 'fd00:99::1', servers: [r0/s0, r1/s1]}]", false, fabric.FRR},
	{"default segment", "model: downward-default, servers: {perRack: 2, uplinks: segment}", false, fabric.FRR},
	{"default unnumbered", "model: downward-default, servers: {perRack: 2, uplinks: unnumbered}", false, fabric.FRR},
	{"default unique", "model: downward-default, spine: {as: unique}", false, fabric.FRR},
	{"default L2 dual", "model: downward-default, spine: {kind: l2}, racks: {count: 3, tors: 2}, downwardDefault: {origin: border}, " +
		"border: [{name: b1, as: 64999, default: true}, {name: b2, as: 64999, default: true}], " +
		"pools: {endpoints: [{cidr: 10.64.0.0/12, external: advertise}, {cidr: 'fd00:64::/48', external: nat}]}", false, fabric.FRR},
	{"default machines", "model: downward-default, machines: [{name: db, rack: r0}, {name: fw, rack: r1, routing: static}]", false, fabric.FRR},
	{"ethernet servers reflect", "model: ethernet, routeReflectors: {hosts: servers}", false, fabric.FRR},
	{"ethernet machines", "model: ethernet, machines: [{name: db, rack: r0, addresses: 2}, {name: lb, rack: r1, software: bird}]", false, fabric.FRR},
	{"edited", "model: as-per-rack, overrides: {devices: [{name: spine1, software: bird}, {name: r2-t0, software: bird}], sessions: [{on: r0-t0, with: spine0, set: {localPref: 200}}]}", false, ""},
	{"IPv4", "model: as-per-rack, families: [ipv4]", false, fabric.FRR},
	{"IPv6", "model: as-per-rack, families: [ipv6]", false, fabric.FRR},
	{"IPv6 default", "model: downward-default, families: [ipv6]", false, fabric.FRR},
	{"rack L3 on BIRD", "model: as-per-rack, " + edges, false, fabric.BIRD},
	{"server L2 on BIRD", "model: as-per-server, spine: {kind: l2}", false, fabric.BIRD},
	{"default L3 on BIRD", "model: downward-default", false, fabric.BIRD},
}

func design(t *testing.T, spec string) *fabric.Design {
	t.Helper()
	for _, field := range []string{"racks: {count: 3}", "servers: {perRack: 2}", "endpoints: {perServer: 2}"} {
		if name, _, _ := strings.Cut(field, ":"); !strings.Contains(spec, name+": {") {
			spec += ", " + field
		}
	}
	if !strings.Contains(spec, "families: [") {
		spec += ", families: [ipv4, ipv6]"
	}
	name := "t-" + strings.ToLower(rand.Text()[:10])
	doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: " + name + "}\nspec: {" + spec + "}"))
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	return doc.Fabric.Design()
}

// boot brings a design up, and down with the test, whatever became of it.
func boot(t *testing.T, g *fabric.Design) *Lab {
	t.Helper()
	labtest.Require(t)
	labtest.Programs(t, "frr", frrDir+"/bgpd", "/usr/bin/vtysh")
	labtest.Programs(t, "bird2", birdProgram, birdClient)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := filepath.Rel(here, muslin) // as make bench-fabric-lab says it
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	l, err := Up(t.Context(), g, Options{Binary: binary, Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			l.lastWords(t)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if found, err := Down(l.Name); err != nil || !found {
			t.Errorf("down: found %v, %v", found, err)
		}
		if names, err := left(l.Name); err != nil || len(names) > 0 {
			t.Errorf("left: %v, %v", names, err)
		}
		if _, err := os.Stat(l.dir("")); err == nil {
			t.Errorf("%s is left", l.dir(""))
		}
	})
	t.Logf("booted in %v", time.Since(start).Round(time.Millisecond))
	return l
}

// lastWords shows what daemons that are dead said in the end.
func (l *Lab) lastWords(t *testing.T) {
	running, err := l.daemons()
	if err != nil {
		t.Log(err)
		return
	}
	for i := range l.Design.Devices {
		d := &l.Design.Devices[i]
		if _, ok := running[d.Name]; ok {
			continue
		}
		logs, _ := filepath.Glob(filepath.Join(l.dir(d.Name), "*.log"))
		for _, name := range logs {
			text, _ := os.ReadFile(name)
			t.Logf("%s, whose daemon is dead: …%s", name, text[max(0, len(text)-2000):])
		}
	}
}

// settled fails the test unless every table becomes what the simulation says.
func settled(t *testing.T, l *Lab) {
	t.Helper()
	c, err := l.Settle(context.Background(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range c.Differences {
		if i == 20 {
			t.Errorf("and %d more", len(c.Differences)-i)
			break
		}
		t.Error(d)
	}
	if c.Devices < 5 || c.Paths < 50 || c.Routes < 50 {
		t.Errorf("only %s", c.Summary())
	}
	t.Log(c.Summary())
	if len(c.Differences) > 0 {
		t.FailNow()
	}
}

// TestVariants: the fabrics boot; with real daemons every RIB and every FIB has what the
// simulation says, path by path; and every endpoint reaches every other in both families.
func TestVariants(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			if !v.short && !*full {
				t.Skip("make test-fabric boots it")
			}
			g := design(t, v.spec)
			if v.daemon != "" {
				SetDaemon(g, v.daemon)
			}
			l := boot(t, g)
			settled(t, l)
			r, err := l.Probe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			plain, shared := 0, map[netip.Addr]bool{}
			for _, e := range l.Endpoints() {
				if !e.Anycast {
					plain++
				} else {
					shared[e.Addrs[0]] = true
				}
			}
			machines := 0
			for _, m := range machinesOf(g) {
				machines += len(m.Addrs)
			}
			if r.Probes+r.Apart != plain*((plain-1)*len(g.Families)+len(shared)+machines) || plain < 12 || (machines > 0) != strings.Contains(v.spec, "machines:") {
				t.Errorf("%d probes among %d endpoints, with %d addresses that several have and %d of machines", r.Probes, plain, len(shared), machines)
			}
			if r.Apart > 0 {
				t.Errorf("%d pairs are apart", r.Apart)
			}
			for _, u := range r.Unreached {
				t.Errorf("%+v", u)
			}
			if strings.Contains(v.spec, "border:") {
				crosses(t, l, plain)
				if len(l.edge()) > 1 {
					edgeFails(t, l, plain, l.edge()[0].Name)
				} else if slices.ContainsFunc(g.Devices, func(d fabric.Device) bool { return d.Role == fabric.RoleSpine }) {
					edgeFails(t, l, plain, "spine0-"+l.edge()[0].Name)
				}
			}
			if len(shared) > 0 {
				withdraws(t, l)
			}
			if *full {
				everyFailure(t, l)
			}
		})
	}
}

// urgent fails the test unless every program that speaks BFD for a switch is scheduled before others.
func urgent(t *testing.T, l *Lab) {
	t.Helper()
	names, err := left(l.Name)
	if err != nil {
		t.Fatal(err)
	}
	pids, err := lab.Inside(names...)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, pid := range pids {
		if words := commandLine(pid); len(words) == 0 || filepath.Base(words[0]) != "bfdd" {
			continue
		}
		found++
		if n, err := unix.Getpriority(unix.PRIO_PROCESS, pid); err != nil || n != 20+15 {
			t.Errorf("bfdd has a nice value of %d, %v", 20-n, err)
		}
	}
	if found == 0 {
		t.Error("no switch runs bfdd")
	}
}

// TestStatusOfCables: a cable that is down is told of at both of its ends; at a ToR, that to a server is a port of a bridge.
func TestStatusOfCables(t *testing.T) {
	l := &Lab{Design: design(t, "model: as-per-rack")} // none of it runs
	l.Name = l.Design.Metadata.Name
	l.prepare()
	for what, ends := range map[string][]string{
		"spine0-r0-t0": {"spine0", "r0-t0"},
		"r1-t0-r1-s0":  {"r1-t0", "r1-s0"},
		"r1-s0":        {"r1-t0", "r1-s0"},
		"r1-t0":        {"spine0", "spine1", "r1-t0", "r1-s0", "r1-s1"},
	} {
		l.Failed = []Failed{{what, ByCarrier}}
		s, err := l.Status()
		if err != nil {
			t.Fatal(err)
		}
		var down []string
		for _, d := range s.Devices {
			if strings.HasSuffix(d.State, "; down (carrier): "+what) {
				down = append(down, d.Name)
			}
		}
		if !slices.Equal(down, ends) {
			t.Errorf("%s down: told of at %v, want %v", what, down, ends)
		}
	}
}

// TestFailures: with a link, a switch or a daemon down, and after the repair, every table is what the
// simulation says; flows that have a way go on, and an agent that is killed costs none.
func TestFailures(t *testing.T) {
	l := boot(t, design(t, "model: as-per-rack"))
	settled(t, l)
	l.whole(t, "--live", "--run-dirs", l.dir("")) // servers on the subnet that their ToR tells them of
	urgent(t, l)
	watch := func(what string, do func() error) *Event {
		t.Helper()
		e, err := l.Watch(t.Context(), what, do)
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range e.Differences {
			if i < 10 {
				t.Errorf("%s: %s", what, d)
			}
		}
		t.Logf("%s; settled after %v", e.Summary(), e.Settled.Round(10*time.Millisecond))
		return e
	}
	for _, c := range []struct {
		f     Failed
		cut   int // flows without a way
		apart int // pairs of endpoints, in both families
		short bool
		drawn []string
	}{
		{Failed{"spine0-r0-t0", ByCarrier}, 0, 0, true, []string{"eBGP; down (carrier)", "; spine0-r0-t0 is down (carrier); tables are what"}},
		{Failed{"r1-t0-r1-s0", ByCarrier}, 20, 80, false, []string{"iBGP; down (carrier)"}}, // to and from the server
		{Failed{"spine1", ByCarrier}, 0, 0, false, []string{"sessions; down (carrier)", "eBGP; down (carrier)"}},
		{Failed{"spine0-r0-t0", Silent}, 0, 0, false, []string{"eBGP; down (silent)"}}, // no BFD on cables: the hold time
		{Failed{"r0-s0", ByDaemon}, 0, 0, true, []string{"session; its daemon is dead", "; r0-s0: its daemon is dead; tables are what"}},
	} {
		if !c.short && !*full {
			continue
		}
		e := watch(c.f.What+" down", func() error { return l.Fail(c.f) })
		cut := 0
		for _, g := range e.Flows {
			if g.Cut {
				cut++
			}
		}
		s, err := l.Status()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range s.Devices {
			want := "runs"
			switch {
			case c.f.How == ByDaemon && d.Name == c.f.What:
				want = "its daemon is dead"
			case c.f.How != ByDaemon && (strings.HasPrefix(c.f.What, d.Name) || strings.HasSuffix(c.f.What, d.Name)):
				want = "runs; down"
			case c.f.What == "spine1" && d.Role == fabric.RoleToR:
				want = "runs; down"
			}
			if !strings.HasPrefix(d.State, want) || want == "runs" && d.State != want {
				t.Errorf("%s down: %s %s, want %s", c.f.What, d.Name, d.State, want)
			}
		}
		for _, says := range c.drawn {
			if svg, err := l.Picture(t.Context()); err != nil || !strings.Contains(svg, says) {
				t.Errorf("%s down: the picture does not say %q: %v: %s", c.f.What, says, err, svg)
			}
		}
		if cut != c.cut || len(e.Flows) != 60 {
			t.Errorf("%s: %d of %d flows cut, want %d of 60", c.f.What, cut, len(e.Flows), c.cut)
		}
		if n := len(e.Affected()); c.f.How == ByDaemon && n > 0 {
			t.Errorf("an agent that was killed cost %d flows something: %+v", n, e.Affected())
		}
		if r, err := l.Probe(t.Context()); err != nil || len(r.Unreached) > 0 || r.Apart != c.apart {
			t.Errorf("%s: %v, %+v", c.f.What, err, r)
		}
		watch(c.f.What+" up", func() error { return l.Heal(t.Context(), c.f.What) })
	}
	for what, f := range map[string]Failed{"nothing is called": {"r9-t9", ByCarrier}, "no name": {"", ByCarrier}, "no device": {"spine0-r0-t0", ByDaemon}} {
		if err := l.Fail(f); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%+v: %v, want %q", f, err, what)
		}
	}
}
