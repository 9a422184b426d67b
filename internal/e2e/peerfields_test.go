// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// received is one attribute with which BIRD has a prefix from one session, in
// BIRD's words: "absent" if it has no such route, empty if the route has no such attribute.
func (b *bird) received(session, prefix, attribute string) string {
	out := b.ask("show", "route", prefix, "protocol", session, "all")
	if strings.HasPrefix(out, "BIRD ") && !strings.Contains(out, "BGP.") {
		return "absent"
	}
	for line := range strings.Lines(out) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "BGP."+attribute+": "); ok {
			return value
		}
	}
	return ""
}

// What a router outside announces to n1 in TestBGPPeerFields: networks that it says
// lie behind a third, with a path of AS numbers, and one with ours in it.
const (
	outsidePath              = "65009 65011 4200000007 3333"
	outsideHop4, outsideHop6 = "10.0.0.200", "fd00::200"
	loopedNet4, loopedNet6   = "198.51.100.0/24", "2001:db8:2::/48"
	loopedPath               = "65009 64512"
	outsideAnnounces         = `
filter others {
	if source != RTS_STATIC then reject;
	if net.type = NET_IP4 then bgp_next_hop = ` + outsideHop4 + `; else bgp_next_hop = ` + outsideHop6 + `;
	if net ~ [ ` + loopedNet4 + ` ] || net ~ [ ` + loopedNet6 + ` ] then bgp_path.prepend(64512);
	else { bgp_path.prepend(3333); bgp_path.prepend(4200000007); bgp_path.prepend(65011); }
	accept;
}
protocol static looped4 { ipv4; route ` + loopedNet4 + ` blackhole; }
protocol static looped6 { ipv6; route ` + loopedNet6 + ` blackhole; }
protocol bgp outside from server { local ` + bird4 + ` as 65009; neighbor 10.0.0.1 as 64512;
	ipv4 { import none; export filter others; }; ipv6 { import none; export filter others; }; }
`
)

// listening are the sessions of a BIRD that is told everything and says nothing: v4 and
// v6 are named by what carries them, and both carry both families.
func listening(as int, addr4, addr6 string) string {
	const channels = "direct; ipv4 { import all; export none; }; ipv6 { import all; export none; };"
	return fmt.Sprintf("protocol bgp v4 from server { local %s as %d; neighbor 10.0.0.1 as 64512; %s }\n", addr4, as, channels) +
		fmt.Sprintf("protocol bgp v6 from server { local %s as %d; neighbor fd00::1 as 64512; %s }\n", addr6, as, channels)
}

// The fields and annotations of a BGPPeer that change what its neighbour is told, with
// BIRD as the judge: what it was sent without them, and what with them, on the session
// that was there already.
func TestBGPPeerFields(t *testing.T) {
	t.Parallel()
	needBird(t)
	const self = "10.0.0.1 fd00::1"
	rows := []struct {
		field                 string // or annotation
		as                    int
		attribute             string // values for IPv4 and IPv6 with a blank between them, where they differ
		before, after, looped string // of the networks outside, and of the one with our AS number, after
	}{
		{"muslin/as-override: Enabled", 65011, "as_path", "absent", "64512 65009 64512 4200000007 3333", "64512 " + loopedPath},
		{"muslin/remove-private-as: Enabled", 65012, "as_path", "64512 " + outsidePath, "64512 3333", "64512"},
		{`muslin/prepend: "2"`, 65013, "as_path", "64512 " + outsidePath, "64512 64512 64512 " + outsidePath, "64512 64512 64512 " + loopedPath},
		{"muslin/graceful-shutdown: Enabled", 65014, "community", "", "(65535,0)", "(65535,0)"},
		{"muslin/graceful-shutdown: Enabled", 64512, "local_pref", "100", "0", "absent"}, // of our AS, too: it refuses the loop
		{"keepOriginalNextHop: true", 65015, "next_hop", self, outsideHop4 + " " + outsideHop6, outsideHop4 + " " + outsideHop6},
	}
	c := startCluster(t, 1)
	startBird(t, c, outsideAnnounces)
	birds, plain, with := []*bird{}, "", ""
	for i, r := range rows {
		addrs := []string{fmt.Sprint("10.0.0.", 20+i), fmt.Sprint("fd00::", 20+i)}
		birds = append(birds, startBirdAt(t, c, addrs[0], addrs[1], listening(r.as, addrs[0], addrs[1])))
		for _, addr := range addrs {
			doc := fmt.Sprintf("---\nkind: BGPPeer\nmetadata: {name: p%s%%s}\nspec: {node: n1, peerIP: \"%s\", asNumber: %d%%s}\n", strings.NewReplacer(".", "-", ":", "-").Replace(addr), addr, r.as)
			plain += fmt.Sprintf(doc, "", "")
			if strings.HasPrefix(r.field, "muslin/") {
				with += fmt.Sprintf(doc, ", annotations: {"+r.field+"}", "")
			} else {
				with += fmt.Sprintf(doc, "", ", "+r.field)
			}
		}
	}
	outside := "---\nkind: BGPPeer\nmetadata: {name: outside}\nspec: {node: n1, peerIP: " + bird4 + ", asNumber: 65009%s}\n"
	apply(t, c, `
kind: BGPConfiguration
metadata: {name: default}
spec: {serviceExternalIPs: [{cidr: `+birdNet4+`}, {cidr: `+loopedNet4+`}, {cidr: "`+birdNet6+`"}, {cidr: "`+loopedNet6+`"}]}
`+plain+fmt.Sprintf(outside, ""))

	// each checks what every BIRD was told of two prefixes, on both sessions.
	each := func(prefix4, prefix6 string, want func(row int) string) {
		t.Helper()
		for i, r := range rows {
			for k, prefix := range []string{prefix4, prefix6} {
				value := want(i)
				if hops := strings.Fields(value); r.attribute == "next_hop" && len(hops) == 2 {
					value = hops[k]
				}
				for _, session := range []string{"v4", "v6"} {
					eventually(t, 20*time.Second, func() error {
						got := birds[i].received(session, prefix, r.attribute)
						if r.attribute == "next_hop" {
							got, _, _ = strings.Cut(got, " ") // a link-local one may follow
						}
						if got != value {
							return fmt.Errorf("%s, AS %d, session over %s: %s of %s is %q, want %q", r.field, r.as, session, r.attribute, prefix, got, value)
						}
						return nil
					})
				}
			}
		}
	}
	before, after := func(i int) string { return rows[i].before }, func(i int) string { return rows[i].after }
	absent := func(int) string { return "absent" }
	each(birdNet4, birdNet6, before)
	apply(t, c, with)
	each(birdNet4, birdNet6, after)

	each(loopedNet4, loopedNet6, absent)
	apply(t, c, fmt.Sprintf(outside, ", numAllowedLocalASNumbers: 1"))
	each(loopedNet4, loopedNet6, func(i int) string { return rows[i].looped })
	apply(t, c, fmt.Sprintf(outside, ""))
	each(loopedNet4, loopedNet6, absent)

	// What is taken back is as before, but for the route that is to be withdrawn again.
	apply(t, c, plain)
	each(birdNet4, birdNet6, before)
	out, err := c.Nodes[0].Muslin(t.Context(), "bgp", "peers", "-o", "json")
	if n := strings.Count(out, `"establishedTransitions": 1,`); err != nil || n != 1+2*len(rows) {
		t.Errorf("%d of %d sessions came up once and stayed: %v: %s", n, 1+2*len(rows), err, out)
	}
}

// wantSessions polls until these sessions of BIRD's are up, or all are down.
func (b *bird) wantSessions(up bool, names ...string) {
	b.t.Helper()
	for _, name := range names {
		eventually(b.t, 20*time.Second, func() error {
			out := b.ask("show", "protocols", name)
			if !strings.Contains(out, name) || strings.Contains(out, "Established") != up {
				return fmt.Errorf("BIRD's session %s, wanted up: %v: %s", name, up, out)
			}
			return nil
		})
	}
}

// The fields of a BGPPeer that say whether and which way there is a session, with BIRD
// as a router behind another one (reachableBy), and in the place of a server
// whose own agent has a BGPPeer with this one (reversePeering).
func TestBGPPeerWays(t *testing.T) {
	t.Parallel()
	needBird(t)
	const loop4, loop6 = "192.0.2.1", "2001:db8:9::1"
	const node4, node6 = "10.0.0.30", "fd00::30"
	c := startCluster(t, 1)
	attach(t, c.Nodes[0], "a")
	own := blocksOf(t, c.Nodes[0])
	block4, block6 := own[false].String(), own[true].String()
	router := startBird(t, c, strings.ReplaceAll(listening(65020, loop4, loop6), "direct;", "multihop;"))
	for _, a := range []string{loop4 + "/32", loop6 + "/128"} {
		if err := router.host.AddAddr("lo", netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	server := startBirdAt(t, c, node4, node6, listening(64512, node4, node6))
	told := func(b *bird, sessions ...string) {
		t.Helper()
		b.wantSessions(true, sessions...)
		for _, s := range sessions {
			for _, block := range []string{block4, block6} {
				eventually(t, 20*time.Second, func() error {
					if hop := b.received(s, block, "next_hop"); !strings.HasPrefix(hop, "10.0.0.1") && !strings.HasPrefix(hop, "fd00::1") {
						return fmt.Errorf("BIRD's next hop of %s on session %s: %s", block, s, hop)
					}
					return nil
				})
			}
		}
	}

	// No route leads to the router's addresses, unless the BGPPeer says which way they are.
	behind := "---\nkind: BGPPeer\nmetadata: {name: router-%d}\nspec: {node: n1, peerIP: \"%s\", asNumber: 65020%s}\n"
	apply(t, c, fmt.Sprintf(behind, 4, loop4, "")+fmt.Sprintf(behind, 6, loop6, ""))
	eventually(t, 20*time.Second, func() error {
		out, err := c.Nodes[0].Muslin(t.Context(), "bgp", "peers")
		if n := strings.Count(out, "unreachable"); err == nil && n != 2 {
			err = fmt.Errorf("%d of 2 routers are unreachable: %s", n, out)
		}
		return err
	})
	apply(t, c, fmt.Sprintf(behind, 4, loop4, ", reachableBy: "+bird4)+fmt.Sprintf(behind, 6, loop6, `, reachableBy: "`+bird6+`"`))
	told(router, "v4", "v6")

	// Sessions back, to who peers with an address of this server, or with its labels.
	apply(t, c, `
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
---
kind: Node
metadata: {name: other}
spec: {bgp: {ipv4Address: `+node4+`/24, ipv6Address: "`+node6+`/64"}}
`)
	server.wantSessions(false, "v4", "v6")
	for _, form := range []struct {
		sessions []string
		peers    string
	}{
		{[]string{"v4"}, "peerSelector: all()"},
		{[]string{"v4"}, "peerIP: 10.0.0.1, asNumber: 64512"},
		{[]string{"v6"}, `peerIP: "fd00::1", asNumber: 64512`},
	} {
		for _, reverse := range []string{"Manual", "Auto", "Manual"} {
			apply(t, c, "---\nkind: BGPPeer\nmetadata: {name: of-other}\nspec: {node: other, "+form.peers+", reversePeering: "+reverse+"}\n")
			if reverse == "Auto" {
				told(server, form.sessions...)
			} else {
				server.wantSessions(false, "v4", "v6")
			}
		}
	}
}
