// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

// The protocols of packets.
const (
	icmp  = 1
	tcp   = 6
	udp   = 17
	icmp6 = 58

	solicits = 135 // of neighbour discovery (RFC 4861)
)

// far are two that live somewhere behind the first uplink.
var far = [2]netip.Addr{netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("2001:db8:9::9")}

// scene is a machine while a case is played on it: the objects, as the datastore would
// have them, the agent's part that compiles them, and what has gone wrong so far.
type scene struct {
	m      Machine
	opts   acl.Options
	index  *policy.Index
	world  *policy.World
	filter dataplane.Filtering
	routes dataplane.Forwarding
	local  map[netip.Prefix]route.Route // what the source "local" wants
	bgp    []route.Route
	placed []netip.Addr // of processes
	port   uint16       // of the last packet: each is the first of a flow
	errs   []error
}

func newScene(m Machine) *scene {
	s := &scene{m: m, opts: acl.Options{Prefixes: []string{"cali"}}, index: policy.NewIndex(Node), world: &policy.World{}, local: map[netip.Prefix]route.Route{}, port: 20000}
	// The machine's addresses are no endpoint's.
	reserved, ifaces := map[netip.Addr]string{}, map[string][]netip.Addr{}
	for _, l := range Links {
		for _, a := range l.Addrs {
			reserved[a.Addr()] = "this host"
			ifaces[l.Name] = append(ifaces[l.Name], a.Addr())
		}
	}
	s.index.Reserve(reserved)
	s.index.HostInterfaces(ifaces)
	s.world.Reserved, s.world.Interfaces = reserved, ifaces
	return s
}

func (s *scene) fail(err error) bool {
	if err != nil {
		s.errs = append(s.errs, err)
	}
	return err == nil
}

// open opens the data plane, or again after close as an agent that restarts.
func (s *scene) open() (ok bool) {
	var err error
	s.filter, s.routes, err = s.m.Open(s.opts, route.Options{Workload: func(name string) bool { return strings.HasPrefix(name, "cali") }}, s.world)
	return s.fail(err)
}

// close ends the agent.
func (s *scene) close() {
	if s.filter != nil {
		s.fail(errors.Join(s.filter.Close(), s.routes.Close()))
		s.filter, s.routes = nil, nil
	}
}

// clear takes everything out.
func (s *scene) clear() {
	if s.filter == nil {
		return
	}
	s.local, s.bgp = map[netip.Prefix]route.Route{}, nil
	s.steer()
	s.fail(errors.Join(s.m.Place(nil), s.filter.Teardown(), s.m.Reset()))
}

// put stores objects, as text; apply brings them into force.
func (s *scene) put(texts ...string) {
	for _, text := range texts {
		for doc := range strings.SplitSeq(text, "\n---\n") {
			rs, err := v3.Decode([]byte("apiVersion: projectcalico.org/v3\n" + strings.TrimSpace(doc)))
			if !s.fail(err) {
				continue
			}
			for _, r := range rs {
				v3.Default(r)
				s.set(r, nil)
			}
		}
	}
}

// set stores one object, with what is wrong with it.
func (s *scene) set(r v3.Resource, wrong error) {
	k := keyOf(r)
	s.index.Set(k, r, wrong)
	s.world.Put(k, r, wrong)
}

func (s *scene) remove(kind, namespace, name string) {
	k := policy.Key{Kind: kind, Namespace: namespace, Name: name}
	s.index.Set(k, nil, nil)
	s.world.Put(k, nil, nil)
}

func keyOf(r v3.Resource) policy.Key {
	kind, namespace, name, _ := v3.ParseKey(v3.KeyOf(r))
	return policy.Key{Kind: kind, Namespace: namespace, Name: name}
}

// endpoint is what a case says of a workload; by default it has a role of its own
// name and the addresses of Behind.
type endpoint struct {
	iface, mac string
	nets       []string
	profiles   []string
	floating   [][2]netip.Addr // external, internal
}

// attach makes an endpoint of a workload's interface, and routes to it.
func (s *scene) attach(name string, changes ...func(*endpoint)) {
	e := endpoint{iface: "cali" + name}
	for _, a := range Behind[e.iface] {
		e.nets = append(e.nets, netip.PrefixFrom(a, a.BitLen()).String())
	}
	for _, change := range changes {
		change(&e)
	}
	w := &v3.WorkloadEndpoint{}
	w.Metadata.Namespace, w.Metadata.Name, w.Metadata.Labels = "default", Node+"-test-"+name+"-eth0", labels(name)
	w.Spec.Orchestrator, w.Spec.Workload, w.Spec.Endpoint, w.Spec.Node = "test", name, "eth0", Node
	w.Spec.InterfaceName, w.Spec.MAC, w.Spec.IPNetworks, w.Spec.Profiles = e.iface, e.mac, e.nets, e.profiles
	for _, f := range e.floating {
		w.Spec.IPNATs = append(w.Spec.IPNATs, v3.IPNAT{ExternalIP: f[0].String(), InternalIP: f[1].String()})
	}
	s.set(w, nil)
	s.lead(name)
}

// attachProcess makes an endpoint of a process of the machine, with the name p.
func (s *scene) attachProcess(profiles ...string) {
	w := &v3.WorkloadEndpoint{}
	w.Metadata.Namespace, w.Metadata.Name, w.Metadata.Labels = "default", Node+"-test-p-lo", labels("p")
	w.Metadata.Annotations = map[string]string{v3.AnnotationPrefix + "host-process": "Enabled"}
	w.Spec.Orchestrator, w.Spec.Workload, w.Spec.Endpoint, w.Spec.Node = "test", "p", policy.Loopback, Node
	w.Spec.InterfaceName, w.Spec.Profiles = "calip", profiles
	for _, a := range process {
		w.Spec.IPNetworks = append(w.Spec.IPNetworks, netip.PrefixFrom(a, a.BitLen()).String())
	}
	s.set(w, nil)
	s.opts.Processes, s.placed = true, process[:]
}

func labels(role string) map[string]string {
	return map[string]string{"role": role, "projectcalico.org/namespace": "default"}
}

// lead makes the routes to a workload's interface.
func (s *scene) lead(name string) {
	for _, a := range Behind["cali"+name] {
		p := netip.PrefixFrom(a, a.BitLen())
		s.local[p] = route.Route{Prefix: p, Kind: route.Link, Device: "cali" + name}
	}
}

// apply brings objects, addresses of processes and routes into force, in the agent's order.
func (s *scene) apply() {
	s.fail(s.filter.SetOptions(s.opts))
	s.world.FloatingIPs = s.opts.Floating == acl.AllFloating
	s.fail(s.filter.Apply(s.index, s.index.Flush()))
	s.fail(s.m.Place(s.placed))
	s.steer()
}

// resync is apply as the first of an agent, which does not know what there is.
func (s *scene) resync() {
	s.index.Flush()
	s.fail(s.filter.Resync(s.index))
	s.steer()
}

func (s *scene) steer() {
	var local []route.Route
	for _, r := range s.local {
		local = append(local, r)
	}
	s.fail(errors.Join(s.routes.Replace("local", local), s.routes.Replace("bgp", s.bgp), s.routes.SetComplete("local"), s.routes.SetComplete("bgp")))
	_, err := s.routes.Apply()
	s.fail(err)
}

// families are the indices of Behind and far.
var families = []int{0, 1}

// addr is the address of a workload by its name, of a neighbour by the uplink's, of the
// machine, of its process p, or of one that is far.
func addr(name string, family int) netip.Addr {
	switch name {
	case "far":
		return far[family]
	case "host":
		return Uplinks[0].Addrs[family].Addr()
	case "p":
		return process[family]
	case "up0", "up1":
		return Behind[name][family]
	}
	return Behind["cali"+name][family]
}

// in is the interface by which somebody's packets come in.
func in(name string) string {
	switch name {
	case "far":
		return "up0"
	case "host", "p":
		return ""
	case "up0", "up1":
		return name
	}
	return "cali" + name
}

// packet is the first of a new flow.
func (s *scene) packet(from, to string, family int, proto uint8, port uint16) dataplane.Frame {
	s.port++
	f := dataplane.Frame{In: in(from)}
	f.Src, f.Dst, f.Proto = addr(from, family), addr(to, family), proto
	if policy.HasPorts(proto) {
		f.SrcPort, f.DstPort = s.port, port
	} else if f.ICMPType = 8; family == 1 {
		f.Proto, f.ICMPType = icmp6, 128
	}
	for _, l := range Links {
		if l.Name == f.In {
			f.MAC = l.MAC
		}
	}
	return f
}

// send sends frames, and fails if the machine cannot.
func (s *scene) send(frames ...dataplane.Frame) []dataplane.Outcome {
	got, err := s.m.Send(frames)
	if err == nil && len(got) != len(frames) {
		err = fmt.Errorf("%d outcomes of %d frames", len(got), len(frames))
	}
	if !s.fail(err) {
		return make([]dataplane.Outcome, len(frames))
	}
	return got
}

// expect sends one frame, and expects that it comes out somewhere as it came in.
func (s *scene) expect(f dataplane.Frame, passes bool, out string) {
	s.becomes(f, dataplane.Outcome{Passes: passes, Out: out, Src: f.Src, Dst: f.Dst})
}

// becomes sends one frame, and expects all of what it becomes.
func (s *scene) becomes(f dataplane.Frame, want dataplane.Outcome) {
	got := s.send(f)[0]
	why := got.Why
	if got.Why, want.Why = "", ""; !want.Passes && !got.Passes || got == want {
		return
	}
	s.errs = append(s.errs, fmt.Errorf("%+v by %q became %+v, want %+v (%s)", f.Packet, f.In, got, want, why))
}

// passes and drops expect of a packet in both families that it comes to whom it is for,
// or to nobody.
func (s *scene) passes(from, to string, proto uint8, port uint16) {
	s.goes(true, from, to, proto, port)
}

func (s *scene) drops(from, to string, proto uint8, port uint16) {
	s.goes(false, from, to, proto, port)
}

func (s *scene) goes(passes bool, from, to string, proto uint8, port uint16) {
	for _, family := range families {
		s.expect(s.packet(from, to, family, proto, port), passes, in(to))
	}
}
