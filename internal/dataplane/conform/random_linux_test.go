// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"flag"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/route"
)

var models = flag.Int("conform.models", 30, "random models that TestLinuxIsLikeMemory puts in force")

// The words of random models: little, so that much in them meets.
var (
	someRoles   = []string{"role == 'a'", "role == 'b'", "role in {'a', 'c'}", "role != 'b'", "all()", "role == 'uplink'"}
	someActions = []string{"Allow", "Allow", "Allow", "Deny", "Pass", "Log"}
	somePorts   = []uint16{53, 80, 443}
	someNets    = []string{"10.65.0.0/30", "10.65.0.2/32", "198.51.100.0/24", "172.16.0.0/16", "fd65::/126", "fd65::2/128", "2001:db8:9::/64", "fd16::/32"}
)

func drawRules(t *rapid.T) string {
	var rules []string
	for range rapid.IntRange(0, 4).Draw(t, "rules") {
		r := "{action: " + rapid.SampledFrom(someActions).Draw(t, "action")
		if proto := rapid.SampledFrom([]string{"", "TCP", "UDP", "ICMP", "ICMPv6"}).Draw(t, "protocol"); proto != "" {
			r += ", protocol: " + proto
			if proto[0] != 'I' && rapid.Bool().Draw(t, "port") {
				not := rapid.SampledFrom([]string{"ports", "ports", "notPorts"}).Draw(t, "not")
				r += fmt.Sprintf(", destination: {%s: [%d]}", not, rapid.SampledFrom(somePorts).Draw(t, "port"))
			}
		}
		switch rapid.IntRange(0, 4).Draw(t, "source") {
		case 0:
			r += ", source: {selector: \"" + rapid.SampledFrom(someRoles).Draw(t, "selector") + "\"}"
		case 1:
			r += ", source: {nets: ['" + rapid.SampledFrom(someNets).Draw(t, "net") + "']}"
		case 2:
			r += ", source: {notNets: ['" + rapid.SampledFrom(someNets).Draw(t, "net") + "']}"
		}
		rules = append(rules, r+"}")
	}
	return "[" + strings.Join(rules, ", ") + "]"
}

// drawModel is a model: the same for every scene that it is put on.
func drawModel(t *rapid.T) func(s *scene) {
	var texts []string
	for i := range rapid.IntRange(1, 5).Draw(t, "policies") {
		tier := rapid.SampledFrom([]string{"default", "default", "first"}).Draw(t, "tier")
		forwarded := ""
		if rapid.IntRange(0, 3).Draw(t, "forwarded") == 0 {
			forwarded = ", applyOnForward: true"
		}
		name := fmt.Sprintf("%s.p%d", tier, i)
		texts = append(texts, fmt.Sprintf("kind: GlobalNetworkPolicy\nmetadata: {name: %s}\nspec: {tier: %s, order: %d, selector: \"%s\", types: %s, ingress: %s, egress: %s%s}", name, tier,
			rapid.IntRange(1, 3).Draw(t, "order"), rapid.SampledFrom(someRoles).Draw(t, "selector"), rapid.SampledFrom([]string{"[Ingress]", "[Egress]", "[Ingress, Egress]"}).Draw(t, "types"),
			drawRules(t), drawRules(t), forwarded))
	}
	texts = append(texts, "kind: Tier\nmetadata: {name: first}\nspec: {order: 1, defaultAction: "+rapid.SampledFrom([]string{"Deny", "Pass"}).Draw(t, "default action")+"}")
	texts = append(texts, "kind: Profile\nmetadata: {name: p}\nspec: {ingress: "+drawRules(t)+", egress: [{action: Allow}]}")
	if rapid.IntRange(0, 2).Draw(t, "host endpoint") == 0 {
		texts = append(texts, "kind: HostEndpoint\nmetadata: {name: uplink, labels: {role: uplink}}\nspec: {node: "+Node+", interfaceName: up0}")
	}
	processes := rapid.Bool().Draw(t, "process")
	attached := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.ID).Draw(t, "attached")
	profiles := rapid.SampledFrom([][]string{nil, {"p"}, {"p"}, {"missing"}}).Draw(t, "profiles")
	withMAC, withFloating := rapid.Bool().Draw(t, "MAC"), rapid.Bool().Draw(t, "floating IP")
	nat, floats := rapid.Bool().Draw(t, "NAT"), rapid.Bool().Draw(t, "floating IPs are on")
	hostAction := rapid.SampledFrom([]acl.HostAction{acl.HostDrop, acl.HostAccept}).Draw(t, "host action")
	hole, learnedBy := rapid.Bool().Draw(t, "blackhole"), rapid.SampledFrom([][]string{nil, {"up1"}, {"up1"}}).Draw(t, "learned")
	return func(s *scene) {
		s.put(texts...)
		for _, name := range attached {
			s.attach(name, func(e *endpoint) {
				e.profiles = profiles
				if withMAC {
					m := mac(name[0] - 'a' + 1)
					e.mac = fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
				}
				for _, f := range families {
					if withFloating && name == "b" {
						e.floating = append(e.floating, [2]netip.Addr{floating[f], Behind["calib"][f]})
					}
				}
			})
		}
		if processes {
			s.attachProcess(profiles...)
		}
		s.lead("d")
		s.opts.HostAction = hostAction
		if floats {
			s.opts.Floating = acl.AllFloating
		}
		if nat {
			s.opts.NAT = acl.NAT{Outgoing: pool[:], Spared: pool[:]}
		}
		for _, f := range families {
			if hole {
				s.local[block[f]] = route.Route{Prefix: block[f], Kind: route.Blackhole}
			}
			if learnedBy != nil {
				s.bgp = append(s.bgp, via(learned[f], f, learnedBy...))
			}
		}
	}
}

// drawFrame is a packet from anybody to anybody, now and then under a name that is not
// the sender's.
func drawFrame(t *rapid.T, s *scene) dataplane.Frame {
	who := []string{"a", "b", "c", "d", "far", "host", "up1"}
	if len(s.placed) > 0 {
		who = append(who, "p", "p")
	}
	from, family := rapid.SampledFrom(who).Draw(t, "from"), rapid.IntRange(0, 1).Draw(t, "family")
	f := s.packet(from, rapid.SampledFrom(who).Draw(t, "to"), family, rapid.SampledFrom([]uint8{tcp, udp, icmp}).Draw(t, "protocol"), rapid.SampledFrom(somePorts).Draw(t, "port"))
	switch rapid.IntRange(0, 9).Draw(t, "odd") {
	case 0:
		f.Dst = floating[family]
	case 1:
		f.Dst = nth(block[family], 40)
	case 2:
		f.Dst = nth(learned[family], 5)
	case 3:
		if in(from) != "" && strings.HasPrefix(in(from), "cali") {
			f.Src = addr(rapid.SampledFrom([]string{"a", "b", "far"}).Draw(t, "as"), family)
		}
	case 4:
		if in(from) != "" {
			f.MAC = mac(9)
		}
	}
	return f
}

// TestLinuxIsLikeMemory puts random models, routes and options in force on both machines,
// and sends the same packets through either: they become the same. Of several next
// hops the two choose differently, so that there is one; see spread.
func TestLinuxIsLikeMemory(t *testing.T) {
	kernel, memory := newLinux(t), NewMemory()
	tally := map[string]int{}
	must(t, flag.Set("rapid.checks", fmt.Sprint(*models)))
	rapid.Check(t, func(t *rapid.T) {
		var scenes []*scene
		for _, m := range []Machine{kernel, memory} {
			s := newScene(m)
			defer func() {
				s.clear()
				s.close()
			}()
			if !s.open() {
				t.Fatal(s.errs)
			}
			scenes = append(scenes, s)
		}
		for range rapid.IntRange(1, 2).Draw(t, "models") { // the second comes over the first
			put := drawModel(t)
			for _, s := range scenes {
				put(s)
				s.apply()
			}
		}
		var frames []dataplane.Frame
		for range 60 {
			f := drawFrame(t, scenes[0])
			if f.Src == f.Dst {
				continue
			}
			frames = append(frames, f)
		}
		real, made := scenes[0].send(frames...), scenes[1].send(frames...)
		for _, s := range scenes {
			if len(s.errs) > 0 {
				t.Fatal(s.errs)
			}
		}
		for i, want := range made {
			got, why := real[i], want.Why
			word, _, _ := strings.Cut(why, ":")
			tally[word]++
			for _, a := range process {
				if got.Passes && (a == frames[i].Src || a == frames[i].Dst) {
					tally["from or to a process"]++
				}
			}
			if got.Passes && (got.Src != frames[i].Src || got.Dst != frames[i].Dst) {
				tally["translated"]++
			}
			if got.Why, want.Why = "", ""; got != want && (got.Passes || want.Passes) {
				t.Errorf("%+v by %q: the kernel's became %+v, that in memory %+v (%s)", frames[i], frames[i].In, got, want, why)
			}
		}
	})
	t.Logf("%v", tally)
	for _, k := range []string{"allowed", "denied", "spoofed", "translated", "blackhole", "from or to a process"} {
		if tally[k] == 0 {
			t.Errorf("no packet was %s: the models are too poor", k)
		}
	}
}
