// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/policy"
)

// rig is a host with workloads a, b and c, and a neighbour n on its uplink.
// The table under test is the host's.
type rig struct {
	testing.TB
	host, n *lab.Namespace
	wl      map[string]*lab.Namespace
	tab     *Table
	v       *memView
	nsFile  *os.File
}

// addr4 and addr6 are the addresses of workloads, the neighbour and the host.
var (
	addr4 = map[string]netip.Addr{"a": ip("10.65.0.1"), "b": ip("10.65.0.2"), "c": ip("10.65.0.3"), "n": ip("172.16.0.2"), "host": ip("172.16.0.1")}
	addr6 = map[string]netip.Addr{"a": ip("fd65::1"), "b": ip("fd65::2"), "c": ip("fd65::3"), "n": ip("fd16::2"), "host": ip("fd16::1")}
)

// The kernel makes gateway6 of hostMAC by itself.
var (
	gateway4 = ip("169.254.1.1")
	gateway6 = ip("fe80::ecee:eeff:feee:eeee")
	hostMAC  = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func addrOf(v int, name string) netip.Addr {
	if v == 4 {
		return addr4[name]
	}
	return addr6[name]
}

func wlMAC(name string) net.HardwareAddr { return net.HardwareAddr{0x02, 0, 0, 0, 0, name[0]} }

func newRig(tb testing.TB, change ...func(*Options)) *rig {
	tb.Helper()
	l := labtest.New(tb)
	r := &rig{TB: tb, wl: map[string]*lab.Namespace{}, v: newView()}
	r.host, r.n = labtest.Namespace(tb, l, "host"), labtest.Namespace(tb, l, "n")
	for _, k := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		must(tb, r.host.SetSysctl(k, "1"))
	}
	must(tb, r.host.SetSysctl("net/ipv6/conf/default/accept_dad", "0"))
	must(tb, lab.Veth(lab.End{NS: r.host, Name: "up0"}, lab.End{NS: r.n, Name: "eth0"}))
	for _, p := range []string{"172.16.0.1/24", "fd16::1/64"} {
		must(tb, r.host.AddAddr("up0", netip.MustParsePrefix(p)))
	}
	for _, p := range []string{"172.16.0.2/24", "fd16::2/64"} {
		must(tb, r.n.AddAddr("eth0", netip.MustParsePrefix(p)))
	}
	must(tb, r.n.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), ip("172.16.0.1"), ""))
	must(tb, r.n.AddRoute(netip.MustParsePrefix("::/0"), ip("fd16::1"), ""))
	for _, name := range []string{"a", "b", "c"} {
		r.attach(l, name)
	}
	must(tb, r.host.Do(func() error {
		r.tab = openTable(tb, change...)
		f, err := os.Open("/proc/thread-self/ns/net")
		r.nsFile = f
		return err
	}))
	tb.Cleanup(func() { r.nsFile.Close() })
	for _, ns := range []*lab.Namespace{r.n, r.wl["a"], r.wl["b"], r.wl["c"]} {
		_, err := ns.Serve(80, 81, 1005)
		must(tb, err)
	}
	_, err := r.host.Serve(80)
	must(tb, err)
	return r
}

func (r *rig) attach(l *lab.Lab, name string) {
	r.Helper()
	w := labtest.Namespace(r, l, name)
	r.wl[name] = w
	must(r, w.SetSysctl("net/ipv6/conf/default/accept_dad", "0"))
	iface := "cali" + name
	must(r, lab.Veth(lab.End{NS: r.host, Name: iface, MAC: hostMAC}, lab.End{NS: w, Name: "eth0", MAC: wlMAC(name)}))
	must(r, r.host.AddAddr(iface, netip.PrefixFrom(gateway4, 32)))
	must(r, r.host.AddRoute(host(addr4[name]), netip.Addr{}, iface))
	must(r, r.host.AddRoute(host(addr6[name]), netip.Addr{}, iface))
	must(r, w.AddAddr("eth0", host(addr4[name])))
	must(r, w.AddAddr("eth0", host(addr6[name])))
	must(r, w.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), gateway4, "eth0"))
	must(r, w.AddRoute(netip.MustParsePrefix("::/0"), gateway6, "eth0"))
}

func (r *rig) ns(name string) *lab.Namespace {
	switch name {
	case "n":
		return r.n
	case "host":
		return r.host
	}
	return r.wl[name]
}

// endpoint makes a workload live with an effective policy.
func (r *rig) endpoint(name string, e *policy.Effective) {
	ep := &policy.Endpoint{
		ID: policy.EndpointID{Namespace: "ns", Name: name}, Interface: "cali" + name,
		Addrs: []netip.Addr{addr4[name], addr6[name]}, Effective: e,
	}
	if name != "c" { // c has no MAC address in the model
		ep.HasMAC = true
		copy(ep.MAC[:], wlMAC(name))
	}
	r.v.endpoint(ep)
}

// allowAllEffective is an effective policy that allows everything.
func (r *rig) allowAllEffective() *policy.Effective {
	p := r.v.policy(profile("allow", allowAll, allowAll))
	return r.v.effective(&policy.Effective{ID: "allowallallowall", Profiles: []*policy.Policy{p}})
}

func (r *rig) apply() {
	r.Helper()
	must(r, r.tab.Apply(r.v, r.v.flush()))
	for _, p := range r.tab.Problems() {
		r.Fatalf("problem: %s: %v", p.Object, p.Err)
	}
}

// retune changes options that concern a few chains: the whole is not compared, and the
// table is then what it would be if it were.
func (r *rig) retune(change func(*Options)) {
	r.Helper()
	o := r.tab.opts
	change(&o)
	must(r, r.tab.SetOptions(o))
	if r.tab.state == nil {
		r.Errorf("%+v: the whole table is compared", o)
	}
	r.apply()
	quiet(r, r.tab, r.v)
}

func (r *rig) probe(v int, proto lab.Proto, from, to string, port uint16, timeout time.Duration) lab.Outcome {
	return r.ns(from).Probe(context.Background(), lab.Probe{Proto: proto, Dst: addrOf(v, to), Port: port, Timeout: timeout})
}

// expect checks one probe in the families given.
func (r *rig) expect(want bool, proto lab.Proto, from, to string, port uint16, families ...int) {
	r.Helper()
	if len(families) == 0 {
		families = []int{4, 6}
	}
	for _, v := range families {
		o := r.probe(v, proto, from, to, port, 150*time.Millisecond)
		for range 3 { // the first packet may wait for a neighbour, and the machine be busy
			if !want || o.Verdict == lab.Reached {
				break
			}
			o = r.probe(v, proto, from, to, port, time.Second)
		}
		if got := o.Verdict == lab.Reached; got != want {
			r.Errorf("IPv%d %v %s to %s port %d: %v (%v), want reached %v", v, proto, from, to, port, o.Verdict, o.Err, want)
		}
	}
}
