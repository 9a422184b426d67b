// SPDX-License-Identifier: Apache-2.0

package live

import (
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
)

// place is the design with the endpoints that there are in place of those that it has room for. Of an
// address that several nodes have, the first keeps it; the others are returned.
func place(g *fabric.Design, nodes []Node) (*fabric.Design, []twice) {
	if nodes == nil {
		return g, nil
	}
	of := map[string]*Node{}
	for i := range nodes {
		of[nodes[i].Name] = &nodes[i]
	}
	out, has, again := *g, map[netip.Addr]string{}, []twice(nil)
	out.Devices = slices.Clone(g.Devices)
	for i := range out.Devices {
		d := &out.Devices[i]
		if d.Role != fabric.RoleServer {
			continue
		}
		block, anycast := map[fabric.Family]int{}, map[netip.Addr]bool{}
		var kept []fabric.Origin
		for _, o := range d.Originate {
			switch o.Kind {
			case fabric.OriginEndpoints, fabric.OriginMoved:
				continue
			case fabric.OriginBlock:
				block[fabric.FamilyOf(o.Prefix.Addr())] = o.Prefix.Bits()
				continue
			case fabric.OriginAnycast:
				anycast[o.Prefix.Addr()] = true
			}
			kept = append(kept, o)
		}
		var mine []netip.Addr
		for _, a := range of[d.Name].endpoints() {
			switch {
			case anycast[a]:
			case has[a] != "":
				again = append(again, twice{a, has[a], d.Name})
			default:
				has[a] = d.Name
				mine = append(mine, a)
			}
		}
		d.Originate = append(kept, origins(mine, block)...)
	}
	return &out, again
}

// twice is an address that two nodes have.
type twice struct {
	addr       netip.Addr
	first, too string
}

// endpoints are those of a node, in order; of one that is not there, none.
func (n *Node) endpoints() []netip.Addr {
	if n == nil {
		return nil
	}
	list := slices.DeleteFunc(slices.Clone(n.Endpoints), func(a netip.Addr) bool { return !a.IsValid() || a.Is4In6() || a.Zone() != "" })
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// origins is what a server announces: each endpoint, or in families with a length for them the blocks around them.
func origins(endpoints []netip.Addr, block map[fabric.Family]int) (list []fabric.Origin) {
	var next netip.Addr // after the last endpoint
	for _, a := range endpoints {
		if bits := block[fabric.FamilyOf(a)]; bits > 0 {
			p, _ := a.Prefix(bits)
			if n := len(list); n == 0 || list[n-1].Prefix != p {
				list = append(list, fabric.Origin{Kind: fabric.OriginBlock, Prefix: p, Count: 1})
			}
			continue
		}
		if len(list) > 0 && a == next {
			list[len(list)-1].Count++
		} else {
			list = append(list, fabric.Origin{Kind: fabric.OriginEndpoints, Prefix: netip.PrefixFrom(a, a.BitLen()), Count: 1})
		}
		next = a.Next()
	}
	return list
}
