// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/node/api"
)

// What there is to see of BGP on two real servers and a router: why a prefix is
// routed as it is, everything about a session, what changes, and the export to
// a monitoring station.
func TestSeeingBGP(t *testing.T) {
	t.Parallel()
	needBird(t)
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	b := startBird(t, c, `
protocol bgp b46 from server { local `+bird4+` as 65009; neighbor 10.0.0.1 as 64512;
	ipv4 { import all; export where source = RTS_STATIC; };
	ipv6 { import all; export where source = RTS_STATIC; next hop address `+bird6+`; }; }
`)
	station, err := b.host.Listen("tcp", bird4+":11019")
	if err != nil {
		t.Fatal(err)
	}
	defer station.Close()
	began := make(chan string, 1)
	go func() {
		conn, err := station.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		head := make([]byte, 6)
		if _, err := io.ReadFull(conn, head); err == nil {
			began <- fmt.Sprintf("version %d, type %d", head[0], head[5])
		}
		_, _ = io.Copy(io.Discard, conn)
	}()
	apply(t, c, "kind: BGPPeer\nmetadata: {name: tor}\nspec: {node: n1, peerIP: "+bird4+", asNumber: 65009}\n"+
		"---\nkind: BGPConfiguration\nmetadata: {name: default, annotations: {muslin/bmp: \""+bird4+":11019\"}}\nspec: {}\n")
	says := func(words []string, want ...string) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			out, err := n1.Muslin(t.Context(), words...)
			for _, w := range want {
				if err == nil && !strings.Contains(out, w) {
					err = fmt.Errorf("%v says no %q:\n%s", words, w, out)
				}
			}
			return err
		})
	}
	for _, p := range []struct{ net, host string }{{birdNet4, behind4}, {birdNet6, behind6}} {
		says([]string{"bgp", "why", p.host}, p.net, "path from tor", "the best", "kernel: installed", "peer n2: has not sent it; is not told: it lies outside every IP pool", "peer tor: has sent it; is not told: the peer's AS is in the path")
	}
	w := attach(t, n1, "w1")
	says([]string{"bgp", "why", w.V4.String()}, "from here: block ", "path from this server: the best", "peer n2: has not sent it; is told of it", "peer tor: has not sent it; is told of it")
	says([]string{"bgp", "why", w.V6.String() + "/128"}, "from here: block ")
	says([]string{"bgp", "why", "198.18.0.1"}, "kernel: no route: there is no best path", "peer tor: has not sent it; is not told: there is no best path")
	says([]string{"bgp", "peer", "tor"}, "AS 65009 (eBGP)", "4-octet-as: 65009", "ipv6-unicast", "keepalive")
	eventually(t, 20*time.Second, func() error { // both came through UPDATEs, and are in the kernel by now
		const name = "muslin_bgp_update_to_kernel_seconds_"
		counts := map[string]float64{}
		for line := range strings.Lines(scrape(t, n1)) {
			var v float64
			if word, rest, _ := strings.Cut(line, " "); strings.HasPrefix(word, name) {
				if _, err := fmt.Sscan(rest, &v); err != nil {
					return err
				}
				counts[strings.TrimPrefix(word, name)] = v
			}
		}
		if counts["count"] < 2 || counts["sum"] <= 0 || counts[`bucket{le="+Inf"}`] != counts["count"] || counts["sum"] > 20*counts["count"] {
			return fmt.Errorf("UPDATE to kernel: %v", counts)
		}
		return nil
	})
	for _, p := range []string{birdNet4, birdNet6} {
		around := "0.0.0.0/0"
		if strings.Contains(p, ":") {
			around = "::/0"
		}
		says([]string{"bgp", "routes", p, "-o", "wide"}, p, "65009", "COMMUNITIES")
		says([]string{"bgp", "routes", around, "--longer"}, p)
		if out, err := n1.Muslin(t.Context(), "bgp", "routes", around); err != nil || strings.Contains(out, p) {
			t.Errorf("routes of %s alone: %v\n%s", around, err, out)
		}
	}
	select {
	case got := <-began:
		if got != "version 3, type 4" {
			t.Errorf("the station heard %s, want an Initiation", got)
		}
	case <-time.After(40 * time.Second):
		t.Error("the station heard nothing")
	}

	// Whoever watches sees a withdrawal, and the end of a session with its words.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines := make(chan api.BGPEvent, 1000)
	r, wr := io.Pipe()
	go func() {
		defer wr.Close()
		_ = n1.API().Stream(ctx, "/v1/bgp/watch", nil, func(line json.RawMessage) error {
			_, err := wr.Write(append(line, '\n'))
			return err
		})
	}()
	go func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			var e api.BGPEvent
			if json.Unmarshal(s.Bytes(), &e) == nil {
				lines <- e
			}
		}
	}()
	until := func(what string, ok func(api.BGPEvent) bool) {
		t.Helper()
		for end := time.After(20 * time.Second); ; {
			select {
			case e := <-lines:
				if ok(e) {
					return
				}
			case <-end:
				t.Fatalf("watch did not tell of %s", what)
			}
		}
	}
	eventually(t, 20*time.Second, func() error { // one that begins after it does not tell of the withdrawal
		b.ask("disable", "s4")
		wantVia(t, n1.Namespace, birdNet4, "")
		gone := false
		for end := time.After(time.Second); !gone; {
			select {
			case e := <-lines:
				gone = e.Event == "gone" && e.Prefix == birdNet4
				continue
			case <-end:
			}
			break
		}
		b.ask("enable", "s4")
		wantVia(t, n1.Namespace, birdNet4, bird4)
		if !gone {
			return fmt.Errorf("the withdrawal is not told")
		}
		return nil
	})
	until("the route", func(e api.BGPEvent) bool { return e.Event == "route" && e.Prefix == birdNet4 && e.Route.Best })
	b.ask("disable", "b46", "\"new switch\"")
	until("the end of the session", func(e api.BGPEvent) bool {
		return e.Event == "down" && e.Peer == "tor" && strings.Contains(e.Text, "cease")
	})
	says([]string{"bgp", "peer", "tor"}, "NOTIFICATION", "new switch")
	says([]string{"bgp", "why", behind4}, "peer tor: has no session")
	if _, err := n2.Muslin(t.Context(), "bgp", "why", behind4); err != nil {
		t.Error(err)
	}
}
