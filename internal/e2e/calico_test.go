// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/lab"
)

// What other tools wrote in Calico's format is there before the daemon is.

// kernelRoutes are the routes of a server to exactly one prefix.
func kernelRoutes(t *testing.T, ns *lab.Namespace, p netip.Prefix) []netlink.Route {
	t.Helper()
	h, err := ns.Handle()
	if err != nil {
		t.Fatal(err)
	}
	family := netlink.FAMILY_V4
	if p.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	ones := net.CIDRMask(p.Bits(), p.Addr().BitLen())
	list, err := h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN, Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: ones}}, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// wantLinkRoute expects exactly our own route to a local address.
func wantLinkRoute(t *testing.T, m *machine) {
	t.Helper()
	index, err := m.node.LinkIndex(m.tap)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range m.addr {
		got := kernelRoutes(t, m.node.Namespace, netip.PrefixFrom(a, a.BitLen()))
		if len(got) != 1 || got[0].Protocol != 177 || got[0].Priority != 1024 || got[0].LinkIndex != index {
			t.Errorf("%s: routes to %s are %v, want one of protocol 177 and metric 1024 on %s", m.node.Server.Name, a, got, m.tap)
		}
	}
}

// wantBlackhole expects the route that drops what nobody in a block claims.
func wantBlackhole(t *testing.T, ns *lab.Namespace, prefix string, want bool) {
	t.Helper()
	got := kernelRoutes(t, ns, netip.MustParsePrefix(prefix))
	found := slices.ContainsFunc(got, func(r netlink.Route) bool { return r.Type == unix.RTN_BLACKHOLE && r.Protocol == 177 })
	if found != want {
		t.Errorf("blackhole for %s is there: %v, want %v; routes: %v", prefix, found, want, got)
	}
}

// wantVia polls for a learned route, or for its absence (via "").
func wantVia(t *testing.T, ns *lab.Namespace, prefix, via string) {
	t.Helper()
	eventually(t, 15*time.Second, func() error {
		got := kernelRoutes(t, ns, netip.MustParsePrefix(prefix))
		if via == "" {
			if len(got) > 0 {
				return fmt.Errorf("%s still has %v", ns.Name(), got)
			}
			return nil
		}
		if len(got) != 1 || got[0].Gw.String() != via || got[0].Protocol != 177 {
			return fmt.Errorf("%s: routes to %s are %v, want one of protocol 177 via %s", ns.Name(), prefix, got, via)
		}
		return nil
	})
}

// openstackPort writes a WorkloadEndpoint as networking-calico does.
func openstackPort(d *datastore, node, device, port, tap, mac, group, extra string, addrs ...string) string {
	dash := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
	name := strings.Join([]string{dash(node), "openstack", dash(device), dash(port)}, "-")
	var nets []string
	for _, a := range addrs {
		if strings.Contains(a, ":") {
			a += "/128"
		} else {
			a += "/32"
		}
		nets = append(nets, `"`+a+`"`)
	}
	list := strings.Join(nets, ",")
	d.object("WorkloadEndpoint", "openstack", name, `
		"creationTimestamp":"2026-08-22T13:00:00Z","uid":"0f9e5d7e-0000-4000-8000-`+fmt.Sprintf("%012x", len(name))+`",
		"annotations":{"openstack.projectcalico.org/network-id":"net-1","openstack.projectcalico.org/fqdn":"vm.example.com."},
		"labels":{"sg.projectcalico.org/openstack-`+group+`":"My_SG","sg-name.projectcalico.org/openstack-My_SG":"`+group+`",
			"projectcalico.org/namespace":"openstack","projectcalico.org/orchestrator":"openstack",
			"projectcalico.org/openstack-project-id":"jane3","projectcalico.org/openstack-project-parent-id":null}`,
		`"orchestrator":"openstack","workload":"`+device+`","node":"`+node+`","endpoint":"`+port+`","interfaceName":"`+tap+`","mac":"`+mac+`",
		"ipNetworks":[`+list+`],"allowedIps":["23.23.23.2/32"],"ipv4Gateway":"10.65.0.1","ipv6Gateway":"fd65::1",
		"qosControls":{"ingressBandwidth":1000000,"ingressBurst":4294967296,"somethingNew":[1,{"a":null}]}`+extra)
	return v3.Key("WorkloadEndpoint", "openstack", name)
}

// openstackGroup writes a security group: no types, no order, no tier.
func openstackGroup(d *datastore, id, ingress, egress string) {
	d.object("NetworkPolicy", "openstack", "ossg.default."+id, `"uid":"1","creationTimestamp":null`,
		`"ingress":[`+ingress+`],"egress":[`+egress+`],"selector":"has(sg.projectcalico.org/openstack-`+id+`)"`)
}

func openstackBase(d *datastore) {
	d.object("ClusterInformation", "", "default", "", `"clusterGUID":"c0ffee","clusterType":"openstack","datastoreReady":true`)
	d.object("FelixConfiguration", "", "default", "", `"endpointReportingEnabled":true,"interfacePrefix":"cali,tap","someFutureThing":{"x":1}`)
	// What else networking-calico keeps there is nobody's business here.
	d.put("/calico/dhcp/v2/no-region/subnet/s1", `{"network_id":"net-1","cidr":"10.65.0.0/24","gateway_ip":"10.65.0.1","host_routes":[]}`)
	d.put("/calico/felix/v2/no-region/host/round-trip-check", "1234.5")
	d.put("/calico/openstack/v2/no-region/neutron_election", "controller:17")
	d.put("/calico/compaction/v1/last", "12")
	d.put("/calico/resources/v3/projectcalico.org/livemigrations/openstack/n2-openstack-dev--9-port--9",
		`{"kind":"LiveMigration","spec":{"source":{"workloadEndpoint":{"hostname":"n1"}},"target":{"workloadEndpoint":{"hostname":"n2"}}}}`)
}

func TestCalicoFormat_Openstack(t *testing.T) {
	t.Parallel()
	d := newDatastore(t)
	openstackBase(d)
	const everything = `{"action":"Allow","ipVersion":4},{"action":"Allow","ipVersion":6}`
	openstackGroup(d, "sg1", `
		{"action":"Allow","ipVersion":4,"protocol":6,"destination":{"ports":[22]}},
		{"action":"Allow","ipVersion":6,"protocol":6,"destination":{"ports":["22:23"]}},
		{"action":"Allow","ipVersion":4,"source":{"selector":"has(sg.projectcalico.org/openstack-sg1)"}},
		{"action":"Allow","ipVersion":6,"source":{"selector":"has(sg.projectcalico.org/openstack-sg1)"}}`, everything)
	openstackGroup(d, "sg2", `
		{"action":"Allow","ipVersion":4,"protocol":"ICMP","icmp":{"type":8,"code":0}},
		{"action":"Allow","ipVersion":6,"protocol":"ICMPv6","icmp":{"code":0}},
		{"action":"Allow","ipVersion":4,"protocol":17,"source":{"nets":["10.65.0.2/32"]},"destination":{"ports":[53]}}`,
		everything)
	first := openstackPort(d, "n1", "dev-1", "port-1", "tapport-1", "fa:16:3e:00:00:01", "sg1", "", "10.65.0.2", "fd65::2")
	openstackPort(d, "n1", "dev-2", "port-2", "tapport-2", "fa:16:3e:00:00:02", "sg2", "", "10.65.0.3", "fd65::3")
	openstackPort(d, "n2", "dev-3", "port-3", "tapport-3", "fa:16:3e:00:00:03", "sg1", "", "10.65.0.4", "fd65::4")
	// An allowed address pair given as a network: closed, and nobody else is.
	openstackPort(d, "n2", "dev-4", "port-4", "tapport-4", "fa:16:3e:00:00:04", "sg1", "", "10.65.0.5", "10.65.9.0/24")

	c := newClusterOn(t, d.url, servers(2))
	a := plug(t, c, c.Nodes[0], "vm-a", "tapport-1", "fa:16:3e:00:00:01", "10.65.0.2", "fd65::2")
	b := plug(t, c, c.Nodes[0], "vm-b", "tapport-2", "fa:16:3e:00:00:02", "10.65.0.3", "fd65::3")
	r := plug(t, c, c.Nodes[1], "vm-r", "tapport-3", "fa:16:3e:00:00:03", "10.65.0.4", "fd65::4")
	bad := plug(t, c, c.Nodes[1], "vm-bad", "tapport-4", "fa:16:3e:00:00:04", "10.65.0.5")
	for _, m := range []*machine{a, b, r, bad} {
		serve(t, m, 22, 53, 80)
	}
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		for _, m := range []*machine{a, b, r} {
			routed(t, n, m.addr[false], m.addr[true])
		}
	}
	for _, m := range []*machine{a, b, r} {
		wantLinkRoute(t, m)
	}
	// Where we differ from Calico on purpose.
	for _, m := range []*machine{a, b, r} {
		for _, key := range []string{"net/ipv4/conf/%s/proxy_arp", "net/ipv4/conf/%s/route_localnet", "net/ipv6/conf/%s/proxy_ndp"} {
			if v, err := m.node.Sysctl(fmt.Sprintf(key, m.tap)); err != nil || v != "0" {
				t.Errorf(key+" is %s (%v), want 0", m.tap, v, err)
			}
		}
	}
	foreign := netip.MustParsePrefix("10.99.0.0/24") // removeExternalRoutes is false unless set
	if err := a.node.AddRoute(foreign, netip.Addr{}, a.tap); err != nil {
		t.Fatal(err)
	}
	// No pool and no block: every endpoint is announced on its own.
	wantVia(t, c.Nodes[1].Namespace, "10.65.0.2/32", "10.0.0.1")
	wantVia(t, c.Nodes[1].Namespace, "fd65::2/128", "fd00::1")
	problem(t, c.Nodes[1], "WorkloadEndpoint openstack/n2-openstack-dev--4-port--4", "ipNetworks", "10.65.9.0/24/32")

	judge(t,
		b.asks("ssh from anybody, on the same server", a, lab.TCP, 22, true),
		b.asksAs("a range of ports, IPv6 only", a, lab.TCP, 23, false, false), // nobody listens: refused is not reached
		b.asks("web from another group", a, lab.TCP, 80, false),
		r.asks("web within the group, between servers", a, lab.TCP, 80, true),
		a.asks("udp within the group, between servers", r, lab.UDP, 80, true),
		a.asks("ping: ICMP type and code, ICMPv6 code alone", b, lab.ICMP, 0, true),
		r.asks("ping between servers", b, lab.ICMP, 0, true),
		a.asksAs("udp from one address", b, lab.UDP, 53, true, false),
		r.asksAs("udp from another address", b, lab.UDP, 53, false, false),
		bad.asks("a closed endpoint sends nothing", a, lab.TCP, 22, false),
		a.asks("a closed endpoint receives nothing", bad, lab.TCP, 22, false),
	)

	// A user's change keeps what other tools stored and we do not know.
	name := first[strings.LastIndex(first, "/")+1:]
	text, err := c.Nodes[0].Muslin(t.Context(), "get", "wep", name, "-n", "openstack", "-o", "yaml")
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(text, "sg.projectcalico.org/openstack-sg1:", "sg.projectcalico.org/openstack-sg2:", 1)
	if changed == text {
		t.Fatalf("no label to change in:\n%s", text)
	}
	if out, err := c.Nodes[1].MuslinIn(t.Context(), changed, "apply", "-f", "-"); err != nil {
		t.Fatal(err, out)
	}
	live(t, c)
	judge(t,
		b.asks("ssh is no longer allowed", a, lab.TCP, 22, false),
		r.asks("ping is allowed now", a, lab.ICMP, 0, true),
		a.asks("no member of the group any more", r, lab.TCP, 80, false),
	)
	stored := d.tree(first)
	for _, want := range []struct {
		path []string
		text string
	}{
		{[]string{"spec", "allowedIps"}, "[23.23.23.2/32]"},
		{[]string{"spec", "qosControls", "somethingNew"}, "[1 map[a:<nil>]]"},
		{[]string{"spec", "qosControls", "ingressBurst"}, "4.294967296e+09"},
		{[]string{"metadata", "uid"}, fmt.Sprintf("0f9e5d7e-0000-4000-8000-%012x", len(name))},
		{[]string{"metadata", "creationTimestamp"}, "2026-08-22T13:00:00Z"},
		{[]string{"metadata", "resourceVersion"}, "<nil>"},
	} {
		if got := fmt.Sprint(member(stored, want.path...)); got != want.text {
			t.Errorf("after apply %s is %s, want %s", strings.Join(want.path, "."), got, want.text)
		}
	}
	for _, key := range []string{"/calico/dhcp/v2/no-region/subnet/s1", "/calico/openstack/v2/no-region/neutron_election", "/calico/compaction/v1/last"} {
		if !d.has(key) {
			t.Errorf("%s is gone", key)
		}
	}
	if got := member(d.tree(v3.Key("FelixConfiguration", "", "default")), "spec", "someFutureThing", "x"); got != 1.0 {
		t.Errorf("FelixConfiguration lost a member: %v", got)
	}

	// The driver writes again, over what the user did: a port that moves to
	// another security group by one put.
	openstackPort(d, "n1", "dev-1", "port-1", "tapport-1", "fa:16:3e:00:00:01", "sg1", "", "10.65.0.2", "fd65::2")
	live(t, c)
	judge(t, b.asks("ssh again", a, lab.TCP, 22, true), r.asks("web again", a, lab.TCP, 80, true))
	if len(kernelRoutes(t, a.node.Namespace, foreign)) != 1 {
		t.Error("somebody else's route on an interface of ours is gone")
	}
	if err := d.Delete(t.Context(), first, 0); err != nil {
		t.Fatal(err)
	}
	live(t, c)
	judge(t, b.asks("the port is gone", a, lab.TCP, 22, false))
	wantVia(t, c.Nodes[1].Namespace, "10.65.0.2/32", "")
	wantVia(t, c.Nodes[1].Namespace, "fd65::2/128", "")
}

func TestCalicoFormat_Calicoctl(t *testing.T) {
	t.Parallel()
	d := newDatastore(t)
	meta := func(name string) string {
		return `"annotations":{"projectcalico.org/metadata":"{\"name\":\"` + name + `\"}"}`
	}
	d.object("ClusterInformation", "", "default", "", `"clusterGUID":"0123456789abcdef0123456789abcdef","datastoreReady":true`)
	d.object("FelixConfiguration", "", "default", "", `"nftablesMode":"Auto","nftablesFlowTableOffload":"Disabled","interfacePrefix":"cali,tap"`)
	d.object("Tier", "", "default", "", `"order":1000000,"defaultAction":"Deny"`)
	d.object("Node", "", "n1", `"labels":{"rack":"r1"}`, `"bgp":{"ipv4Address":"10.0.0.1/24","ipv6Address":"fd00::1/64","ipv4IPIPTunnelAddr":"10.66.0.1"},"orchRefs":[{"nodeName":"n1","orchestrator":"k8s"}],"wireguard":{"interfaceIPv4Address":"10.66.0.9"}`)
	d.object("IPPool", "", "pool4", "", `"cidr":"10.66.0.0/16","blockSize":26,"ipipMode":"Never","vxlanMode":"Never","nodeSelector":"all()","assignmentMode":"Automatic","allowedUses":["Workload","Tunnel"]`)
	d.object("IPPool", "", "pool6", "", `"cidr":"fd66::/48","blockSize":122,"nodeSelector":"all()"`)
	affinity := func(node, block, value string) {
		family := "ipv4"
		if strings.Contains(block, ":") {
			family = "ipv6"
		}
		d.put("/calico/ipam/v2/host/"+node+"/"+family+"/block/"+strings.Replace(block, "/", "-", 1), value)
	}
	d.put("/calico/ipam/v2/host/n1", "")
	affinity("n1", "10.66.0.0/26", `{"state":"confirmed","deleted":false}`)
	affinity("n1", "10.66.0.64/26", "") // an old client's: confirmed
	affinity("n1", "10.66.0.128/26", `{"state":"pending","deleted":false}`)
	affinity("n1", "10.66.0.192/26", `{"state":"pendingDeletion"}`)
	affinity("n1", "fd66::/122", `{"state":"confirmed","type":"host"}`)
	d.put("/calico/ipam/v2/assignment/ipv4/block/10.66.0.0-26",
		`{"cidr":"10.66.0.0/26","affinity":"host:n1","affinity_claim_time":"2026-01-01T00:00:00Z","strictAffinity":false,"allocations":[0,null,0`+strings.Repeat(",null", 61)+`],"unallocated":[1`+counting(3, 63)+`],"attributes":[{"handle_id":"cni.web","secondary":{"node":"n1"}}],"deleted":false,"sequenceNumber":17,"sequenceNumberForAllocation":{"0":16,"2":17},"futureMember":true}`)

	d.object("Profile", "", "kns.shop", "", `"labelsToApply":{"pcns.team":"blue"},"ingress":[{"action":"Allow","source":{"selector":"team == 'blue'"}}],"egress":[{"action":"Allow"}]`)
	d.object("Profile", "", "team", "", `"labelsToApply":{"team":"blue"},"egress":[{"action":"Allow"}],"ingress":[{"action":"Allow","protocol":"TCP","destination":{"ports":[80]}}]`)
	wep := func(node, pod, iface, profiles, labels string, nets string) {
		d.object("WorkloadEndpoint", "shop", node+"-cni-"+pod+"-eth0",
			`"labels":{"projectcalico.org/namespace":"shop","projectcalico.org/orchestrator":"cni"`+labels+`}`,
			`"orchestrator":"cni","containerID":"`+pod+`","node":"`+node+`","endpoint":"eth0","interfaceName":"`+iface+`","profiles":[`+profiles+`],"ipNetworks":[`+nets+`],"ports":[{"name":"http","protocol":"TCP","port":80,"hostPort":0,"hostIP":""}]`)
	}
	wep("n1", "web", "caliweb", `"team"`, `,"app":"web"`, `"10.66.0.2/32","fd66::2/128"`)
	wep("n2", "db", "calidb", `"kns.shop"`, `,"app":"db"`, `"10.66.9.2/32","fd66::9:2/128"`)
	wep("n2", "other", "caliother", `"kns.shop"`, `,"app":"other"`, `"10.66.9.3/32","fd66::9:3/128"`)
	wep("n1", "ghost", "calighost", `"nobody-wrote-it"`, "", `"10.66.0.9/32","fd66::10/128"`)

	// Two generations of calicoctl: the annotation, and the default. prefix.
	d.object("NetworkPolicy", "shop", "db", meta("db")+`,"labels":{"projectcalico.org/tier":"default"}`,
		`"tier":"default","order":10,"selector":"app == 'db'","types":["Ingress"],"ingress":[{"action":"Allow","protocol":"TCP","source":{"selector":"app == 'web'"},"destination":{"ports":["http"]},"metadata":{"annotations":{"why":"test"}}}],"performanceHints":["AssumeNeededOnEveryNode"]`)
	d.object("GlobalNetworkPolicy", "", "default.no-icmp", "", `"order":5,"selector":"all()","types":["Egress"],"egress":[{"action":"Deny","protocol":"ICMP"},{"action":"Deny","protocol":"ICMPv6"},{"action":"Pass"}]`)

	c := newClusterOn(t, d.url, servers(2))
	web := plug(t, c, c.Nodes[0], "web", "caliweb", "", "10.66.0.2", "fd66::2")
	db := plug(t, c, c.Nodes[1], "db", "calidb", "", "10.66.9.2", "fd66::9:2")
	other := plug(t, c, c.Nodes[1], "other", "caliother", "", "10.66.9.3", "fd66::9:3")
	ghost := plug(t, c, c.Nodes[0], "ghost", "calighost", "", "10.66.0.9", "fd66::10")
	for _, m := range []*machine{web, db, other, ghost} {
		serve(t, m, 80, 81)
	}
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	n1, n2 := c.Nodes[0].Namespace, c.Nodes[1].Namespace
	for p, via := range map[string]string{"10.66.0.0/26": "10.0.0.1", "10.66.0.64/26": "10.0.0.1", "fd66::/122": "fd00::1"} {
		wantVia(t, n2, p, via)
		wantBlackhole(t, n1, p, true)
	}
	// Outside this node's blocks an endpoint is announced on its own.
	wantVia(t, n1, "10.66.9.2/32", "10.0.0.2")
	wantVia(t, n1, "fd66::9:2/128", "fd00::2")
	for _, p := range []string{"10.66.0.128/26", "10.66.0.192/26", "10.66.0.2/32", "fd66::2/128"} {
		wantVia(t, n2, p, "")
		wantBlackhole(t, n1, p, false)
	}
	wantLinkRoute(t, web)
	wantLinkRoute(t, db)
	for _, a := range []*machine{web, db, other} {
		for _, n := range c.Nodes {
			routed(t, n, a.addr[false], a.addr[true])
		}
	}
	problem(t, c.Nodes[0], "WorkloadEndpoint shop/n1-cni-ghost-eth0", "spec.profiles", "nobody-wrote-it")
	judge(t,
		web.asks("a named port, and the source by selector", db, lab.TCP, 80, true),
		web.asks("another port", db, lab.TCP, 81, false),
		other.asks("another source", db, lab.TCP, 80, false),
		other.asks("by the profile team", web, lab.TCP, 80, true),
		other.asks("not by the profile team", web, lab.TCP, 81, false),
		web.asks("by the profile kns.shop, from a label of the profile team", other, lab.TCP, 81, true),
		web.asks("the policy with the older name", other, lab.ICMP, 0, false),
		ghost.asks("a profile that does not exist denies", web, lab.TCP, 80, false),
		web.asks("a profile that does not exist denies", ghost, lab.TCP, 80, false),
	)

	// A workload of ours goes into the block that is there, past what is taken.
	w := attach(t, c.Nodes[0], "mine", "-n", "shop", "--profile", "team")
	if w.V4.String() != "10.66.0.1" || !netip.MustParsePrefix("fd66::/122").Contains(w.V6) {
		t.Errorf("attached with %v, want 10.66.0.1 and an address of fd66::/122", w.Addrs)
	}
	block := d.tree("/calico/ipam/v2/assignment/ipv4/block/10.66.0.0-26")
	if block["futureMember"] != true || fmt.Sprint(member(block, "sequenceNumberForAllocation", "2")) != "17" {
		t.Errorf("the block lost members: %v", block)
	}
	node := d.tree(v3.Key("Node", "", "n1"))
	if got := fmt.Sprintln(member(node, "spec", "orchRefs"), member(node, "spec", "bgp", "ipv4IPIPTunnelAddr"), member(node, "metadata", "labels", "rack"), member(node, "spec", "wireguard", "interfaceIPv4Address")); got != "[map[nodeName:n1 orchestrator:k8s]] 10.66.0.1 r1 10.66.0.9\n" {
		t.Errorf("the Node lost members: %s", got)
	}

	// The same policies under the names that people know them by.
	out, err := c.Nodes[0].Muslin(t.Context(), "get", "gnp,np", "-A", "-o", "name")
	if err != nil || out != "globalnetworkpolicy/no-icmp\nnetworkpolicy/shop/db\n" {
		t.Errorf("get -o name: %v: %s", err, out)
	}
	apply(t, c, "kind: NetworkPolicy\nmetadata: {name: db, namespace: shop}\nspec: {order: 10, selector: app == 'db', types: [Ingress], ingress: [{action: Allow, protocol: TCP, source: {selector: app == 'other'}, destination: {ports: [http]}}]}\n")
	live(t, c)
	judge(t, web.asks("no more", db, lab.TCP, 80, false), other.asks("instead", db, lab.TCP, 80, true))
	if got := member(d.tree(v3.Key("NetworkPolicy", "shop", "db")), "metadata", "annotations", "projectcalico.org/metadata"); got != `{"name":"db"}` {
		t.Errorf("the stored policy's annotation is %v", got)
	}
}

// counting is ",from,…,to".
func counting(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, ",%d", i)
	}
	return b.String()
}
