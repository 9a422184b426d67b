// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

// mistaken is a machine of which the data plane is told something else than the model
// says, or does something else than it is told.
type mistaken struct {
	Machine
	filter func(dataplane.Filtering) dataplane.Filtering
	routes func(dataplane.Forwarding) dataplane.Forwarding
}

func (m mistaken) Open(f acl.Options, r route.Options, w *policy.World) (dataplane.Filtering, dataplane.Forwarding, error) {
	filter, routes, err := m.Machine.Open(f, r, w)
	if err == nil && m.filter != nil {
		filter = m.filter(filter)
	}
	if err == nil && m.routes != nil {
		routes = m.routes(routes)
	}
	return filter, routes, err
}

func found(t *testing.T, m Machine) {
	for _, c := range Cases() {
		if errs := c.Check(m); len(errs) > 0 {
			t.Logf("found by %q: %v", c.Name, errs[0])
			return
		}
	}
	t.Error("no case finds it")
}

// astray is a routing table that takes other routes than it is given.
type astray struct {
	dataplane.Forwarding
	wrong func(source string, rs []route.Route) []route.Route
}

func (r astray) Replace(source string, rs []route.Route) error {
	return r.Forwarding.Replace(source, r.wrong(source, slices.Clone(rs)))
}

// forgetful is one that forgets its routes with the agent.
type forgetful struct{ dataplane.Forwarding }

func (r forgetful) Close() error {
	for _, source := range []string{"local", "bgp"} {
		_ = r.Replace(source, nil)
	}
	_, _ = r.Apply()
	return r.Forwarding.Close()
}

// TestFindsMistakesOfForwarding plants them into a machine in memory.
func TestFindsMistakesOfForwarding(t *testing.T) {
	without := func(kind route.Kind) func(string, []route.Route) []route.Route {
		return func(_ string, rs []route.Route) []route.Route {
			return slices.DeleteFunc(rs, func(r route.Route) bool { return r.Kind == kind })
		}
	}
	for name, wrong := range map[string]func(string, []route.Route) []route.Route{
		"no blackholes":   without(route.Blackhole),
		"nothing learned": without(route.Via),
		"one next hop": func(_ string, rs []route.Route) []route.Route {
			for i := range rs {
				if as := rs[i].Hops.Addrs(); len(as) > 1 {
					rs[i].Hops = route.HopsOf(as[0])
				}
			}
			return rs
		},
		"IPv4 alone": func(_ string, rs []route.Route) []route.Route {
			return slices.DeleteFunc(rs, func(r route.Route) bool { return r.Prefix.Addr().Is6() })
		},
		"host routes widened": func(source string, rs []route.Route) []route.Route {
			for i := range rs {
				if r := &rs[i]; source == "local" && r.Kind == route.Link {
					r.Prefix = netip.PrefixFrom(r.Prefix.Addr(), r.Prefix.Bits()-1).Masked()
				}
			}
			return rs
		},
	} {
		t.Run(name, func(t *testing.T) {
			found(t, mistaken{Machine: NewMemory(), routes: func(r dataplane.Forwarding) dataplane.Forwarding { return astray{r, wrong} }})
		})
	}
	t.Run("forgetful", func(t *testing.T) {
		found(t, mistaken{Machine: NewMemory(), routes: func(r dataplane.Forwarding) dataplane.Forwarding { return forgetful{r} }})
	})
}
