// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/fabric"
)

// Explanation is what a device knows of an address, and why: from which peers it heard
// of it, what it did with that, who did not tell it and why, and, if it knows no
// way, where the route ends that somebody announces.
type Explanation struct {
	Device  string       `json:"device"`
	To      netip.Addr   `json:"to"`
	Failure string       `json:"failure"`
	Routes  []Reasons    `json:"routes"`            // of the prefixes around the address, longest first
	By      netip.Prefix `json:"by,omitzero"`       // that packets follow
	Reached bool         `json:"reached"`           // packets from the device all arrive
	Lost    string       `json:"lost,omitempty"`    // where and why, if they do not
	Discard netip.Prefix `json:"discard,omitzero"`  // a discard route of the device that goes first
	Without []string     `json:"without,omitempty"` // sessions of the device that are down
}

// Reasons are those of one prefix at the device.
type Reasons struct {
	Prefix  netip.Prefix      `json:"prefix"`
	Kind    fabric.OriginKind `json:"kind"`
	Origins []string          `json:"origins,omitempty"` // some of the devices that announce it
	Many    int               `json:"many,omitempty"`    // how many there are
	Local   bool              `json:"local,omitempty"`
	Via     []NextHop         `json:"via,omitempty"`
	Paths   []ReasonedPath    `json:"paths,omitempty"`
	Silent  []Silence         `json:"silent,omitempty"` // peers that sent nothing
	Ends    []End             `json:"ends,omitempty"`   // where the route got lost, if the device has none
}

// ReasonedPath is a path with the reason why it is not the best.
type ReasonedPath struct {
	RoutePath
	Beaten string `json:"beaten,omitempty"`
	Says   string `json:"says,omitempty"` // what the software of the device says about it
}

// Silence is a peer that sent nothing, and why.
type Silence struct {
	Peer string `json:"peer"`
	Many int    `json:"many,omitempty"` // that many like it, if not one
	Why  string `json:"why"`
}

// End is a session over which a route does not come: From has it and To has not; or who would announce it and is down.
type End struct {
	From string `json:"from"`
	To   string `json:"to,omitempty"`
	Many int    `json:"many,omitempty"` // that many like it, if not one
	Why  string `json:"why"`
}

// maxNamed bounds the lists of an explanation.
const maxNamed = 12

// Explain says what a device knows of an address, and why.
func (s *Sim) Explain(device string, to netip.Addr, f Failure) (out *Explanation, err error) {
	err = s.follow(device, to, f, func(sc *scene, k *walk, n int) {
		out = &Explanation{Device: device, To: to, Failure: s.g.failureName(f), Routes: []Reasons{}}
		for _, w := range k.over {
			out.Routes = append(out.Routes, w.reasons(n))
		}
		for _, peer := range sc.without(n) {
			out.Without = append(out.Without, sc.devices[peer].Name)
		}
		k.judge(out, n)
	})
	return out, err
}

// judge says what becomes of packets from a node.
func (k *walk) judge(out *Explanation, n int) {
	by, ways, end := k.choose(n)
	if by != nil && (len(ways) > 0 || end == delivered || end == outside) {
		out.By = by.classes[by.class].prefix
	}
	if end == discarded {
		for _, p := range k.of(n).Discard {
			if p.Contains(k.to.Addr()) && (!out.Discard.IsValid() || p.Bits() > out.Discard.Bits()) {
				out.Discard = p
			}
		}
	}
	fate := k.from(n)
	if out.Reached = fate.lost < 1e-9; !out.Reached {
		out.Lost = fmt.Sprintf("%.3g %% of the flows at %s: %s", 100*fate.lost, k.of(fate.at).Name, fate.why)
	}
}

// without are the peers with which a node should have a session and has none.
func (s *scene) without(n int) (peers []int) {
	d := s.nodes[n].device
	for _, h := range s.devices[d].halfs {
		to := s.at[h.peer]
		if to >= 0 && !slices.ContainsFunc(s.nodes[n].edges, func(e edge) bool { return e.to == int(to) && e.seg == h.seg }) {
			peers = append(peers, h.peer)
		}
	}
	return peers
}

// reasons are those of the class at a node.
func (w *spread) reasons(n int) Reasons {
	c, st, node := &w.classes[w.class], &w.state[n], &w.nodes[n]
	known := w.route(n)
	out := Reasons{Prefix: c.prefix, Kind: c.kind, Many: len(c.origins), Local: known.Local, Via: known.Via}
	for _, d := range c.origins[:min(len(c.origins), maxNamed)] {
		out.Origins = append(out.Origins, w.devices[d].Name)
	}
	beaten := node.rules.Beaten(st.paths)
	at := 0
	for k := range st.in {
		for i, a := range st.in[k] {
			p := ReasonedPath{RoutePath: known.Paths[at]}
			at++
			j := slices.IndexFunc(st.paths, func(x bgp.Candidate) bool { return x.Peer == k && int(x.ID) == i })
			if j >= 0 && beaten[j] != nil {
				b := beaten[j]
				p.Beaten = fmt.Sprintf("%s: %s against %s of %s", b.Step, b.Value, b.To, w.teller(n, st.paths[b.By].Peer))
			}
			if a.refused == bgp.Accepted && a.on.node < 0 {
				p.Says = unreached(w.devices[node.device].Software, p.NextHop)
			}
			out.Paths = append(out.Paths, p)
		}
		if len(st.in[k]) == 0 {
			e := &node.edges[k]
			out.Silent = append(out.Silent, Silence{w.of(e.to).Name, e.many, w.silence(e.to, e.back)})
		}
	}
	if st.best < 0 {
		out.Ends = w.ends(n)
	}
	return out
}

// teller is who sent a path.
func (w *spread) teller(n, peer int) string {
	if peer == bgp.Own {
		return "the device itself"
	}
	return w.of(w.nodes[n].edges[peer].to).Name
}

// unreached is what a program says of a next hop that is on no segment.
func unreached(s fabric.Software, hop netip.Addr) string {
	switch s {
	case fabric.BIRD:
		return fmt.Sprintf("Invalid NEXT_HOP attribute - address %s not directly reachable", hop)
	case fabric.FRR:
		return fmt.Sprintf("%s (inaccessible)", hop)
	}
	return ""
}

// silence is why a node told a peer nothing.
func (w *spread) silence(n, k int) string {
	st := &w.state[n]
	switch prefix := w.classes[w.class].prefix; {
	case st.best < 0:
		return "it has no route itself"
	case w.summed(n, w.nodes[w.nodes[n].edges[k].to].device, prefix):
		return "it announces the prefix of its rack instead"
	}
	_, why := w.offer(n, k, st.paths[st.best])
	return why
}

// ends are the sessions over which the class does not come: first those that are down, then those that are up, other than
// the node's own, whose peers are among the silent.
func (w *spread) ends(node int) (list []End) {
	held := false
	for n := range w.nodes {
		if w.state[n].best < 0 {
			continue
		}
		held = true
		from := w.nodes[n].device
		for _, peer := range w.without(n) {
			if to := int(w.at[peer]); w.state[to].best < 0 && len(list) < maxNamed {
				list = append(list, End{w.devices[from].Name, w.devices[peer].Name, w.nodes[n].weight(), w.downBetween(from, peer)})
			}
		}
	}
	for _, d := range w.classes[w.class].origins {
		if !held && !w.fail.up(w.graph, d) && len(list) < maxNamed {
			list = append(list, End{From: w.devices[d].Name, Why: "is down"})
		}
	}
	for n := range w.nodes {
		if w.state[n].best < 0 {
			continue
		}
		for k := range w.nodes[n].edges {
			e := &w.nodes[n].edges[k]
			if e.to == node || w.state[e.to].best >= 0 {
				continue
			}
			why := ""
			for _, a := range w.state[e.to].in[e.back] {
				switch {
				case a.refused != bgp.Accepted:
					why = "refused: " + a.why
				case a.on.node < 0:
					why = fmt.Sprintf("next hop %s is not on a segment of the device", a.received.NextHop())
				}
			}
			if why == "" {
				why = "not sent: " + w.silence(n, k)
			}
			if len(list) < maxNamed {
				list = append(list, End{w.of(n).Name, w.of(e.to).Name, e.many, why})
			}
		}
	}
	return list
}

// downBetween is why there is no session between two devices.
func (w *spread) downBetween(a, b int) string {
	for _, d := range []int{a, b} {
		if !w.fail.up(w.graph, d) {
			return w.devices[d].Name + " is down"
		}
	}
	return "the session is down"
}
