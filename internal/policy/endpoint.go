// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// Kinds that the Index takes.
const (
	kindEndpoint      = "WorkloadEndpoint"
	kindHostEndpoint  = "HostEndpoint"
	kindPolicy        = "NetworkPolicy"
	kindGlobalPolicy  = "GlobalNetworkPolicy"
	kindStaged        = "StagedNetworkPolicy"
	kindStagedGlobal  = "StagedGlobalNetworkPolicy"
	kindStagedKube    = "StagedKubernetesNetworkPolicy"
	kindTier          = "Tier"
	kindProfile       = "Profile"
	kindNetworkSet    = "NetworkSet"
	kindGlobalNetwSet = "GlobalNetworkSet"
)

// member is what an endpoint or a network set contributes to sets. It does not
// change.
type member struct {
	nets  []netip.Prefix // each once; of a network set merged, of an endpoint single addresses
	ports []namedPort
	class *memberClass
	isSet bool // a network set
}

type namedPort struct {
	name  word
	proto uint8
	port  uint16
}

// parsedEndpoint is a workload endpoint as read from its object.
type parsedEndpoint struct {
	id       EndpointID
	node     word
	iface    string
	created  int64 // Unix nanoseconds; MaxInt64 if not said
	mac      [6]byte
	hasMAC   bool
	macs     [][6]byte // more of them, in order
	guest    bool
	process  bool
	nets     []netip.Prefix // single addresses, each once
	sources  []netip.Prefix // which it may send from besides
	floating []Floating
	anycast  bool // endpoints of other nodes may have its addresses, too
	stack    bool // its orchestrator is OpenStack
	ports    []namedPort
	labels   labelSet
	profiles []word // each once
}

// errClosed marks an endpoint that is readable, and is not to be in force.
var errClosed = errors.New("the endpoint is closed")

// endpoint reads an endpoint. odd is tolerated but worth reporting. An error
// that wraps errClosed takes effect; any other is a defect of the object, whose
// last good version then stays in force.
func (rd *Reader) endpoint(k Key, w *v3.WorkloadEndpoint) (p *parsedEndpoint, odd []error, err error) {
	s := &w.Spec
	p = &parsedEndpoint{
		id: EndpointID{rd.word(k.Namespace).Value(), k.Name}, node: rd.word(s.Node), iface: s.InterfaceName, created: math.MaxInt64,
	}
	if t := w.Metadata.CreationTimestamp; t != nil {
		if at, err := time.Parse(time.RFC3339, *t); err == nil {
			p.created = at.UnixNano()
		}
	}
	if p.nets, err = endpointNets(s.IPNetworks); err != nil {
		return nil, nil, err
	}
	if err = p.link(s); err != nil {
		return nil, nil, err
	}
	p.ports, odd = rd.namedPorts(s.Ports)
	p.profiles = rd.profiles(s.Profiles)
	var bad []error
	p.floating, bad = floatingIPs(s, p.nets)
	odd, p.stack = append(odd, bad...), s.Orchestrator == openStack
	var given []label
	if s.ServiceAccountName != "" {
		given = []label{{rd.word(labelServiceAccount), rd.word(s.ServiceAccountName)}}
	}
	own, forged := rd.ownLabels(w.Metadata.Labels, k.Namespace, given...)
	if forged != "" {
		odd = append(odd, fieldErrf("metadata.labels["+forged+"]", "%q is taken as %q, the namespace of the endpoint", w.Metadata.Labels[forged], k.Namespace))
	}
	p.labels = own
	set, bad := w.Settings()
	switch {
	case len(set.MACs) > 0 && !p.hasMAC:
		bad = append(bad, fieldErrf("metadata.annotations["+v3.AnnotationPrefix+"macs]", "ignored: spec.mac is missing, so that every MAC address is accepted; set it"))
	case len(set.MACs) > 0:
		slices.SortFunc(set.MACs, func(a, b [6]byte) int { return slices.Compare(a[:], b[:]) })
		p.macs = slices.DeleteFunc(slices.Compact(set.MACs), func(m [6]byte) bool { return m == p.mac })
	}
	if p.anycast, odd = set.Anycast, append(odd, bad...); set.HostProcess {
		odd = append(odd, p.ofProcess()...)
	}
	if p.sources, err = parseNets("spec.allowSpoofedSourcePrefixes", s.AllowSpoofedSourcePrefixes); err != nil {
		return nil, nil, err
	}
	switch {
	case len(p.nets) == 0:
		err = fieldErr("spec.ipNetworks", fmt.Errorf("%w: it has no address; add one", errClosed))
	case s.InterfaceName == "":
		err = fieldErr("spec.interfaceName", fmt.Errorf("%w: it names no interface; set it", errClosed))
	}
	return p, odd, err
}

// link reads the MAC address, and whether the endpoint has a gateway of its own.
func (p *parsedEndpoint) link(s *v3.WorkloadEndpointSpec) error {
	if s.MAC != "" {
		mac, err := net.ParseMAC(s.MAC)
		if err != nil || len(mac) != 6 {
			return fieldErrf("spec.mac", "%q: want six octets such as 02:00:00:00:00:01", s.MAC)
		}
		p.mac, p.hasMAC = [6]byte(mac), true
	}
	if s.IPv4Gateway != "" {
		gateway, err := netip.ParseAddr(s.IPv4Gateway)
		if err != nil || !gateway.Is4() {
			return fieldErrf("spec.ipv4Gateway", "%q: want an IPv4 address", s.IPv4Gateway)
		}
		// A link-local one is no address of a subnet: the host's own, of containers.
		p.guest = !gateway.IsLinkLocalUnicast()
	}
	return nil
}

// namedPorts reads the ports of an endpoint that have names, sorted. Those of a
// protocol without ports are left out, and worth reporting.
func (rd *Reader) namedPorts(ports []v3.EndpointPort) (list []namedPort, odd []error) {
	for i, p := range ports {
		if p.Name == "" {
			continue
		}
		proto, ok := p.Protocol.Number()
		if !ok || !HasPorts(proto) {
			odd = append(odd, fieldErrf(fmt.Sprintf("spec.ports[%d].protocol", i), "port %q is ignored: protocol %s; want TCP, UDP or SCTP", p.Name, p.Protocol))
			continue
		}
		list = append(list, namedPort{rd.word(p.Name), proto, p.Port})
	}
	slices.SortFunc(list, comparePorts)
	return slices.Clip(slices.Compact(list)), odd
}

// profiles reads names of profiles, each once.
func (rd *Reader) profiles(names []string) (list []word) {
	for _, name := range names {
		if w := rd.word(name); !slices.Contains(list, w) {
			list = append(list, w)
		}
	}
	return list
}

// ofProcess makes the endpoint one of a process of the server itself: it has no
// interface, and what goes with one is nothing to it.
func (p *parsedEndpoint) ofProcess() (odd []error) {
	if len(p.floating) > 0 {
		odd = append(odd, fieldErrf("spec.ipNATs", "ignored: a process of the server has no floating IPs; remove them"))
	}
	p.process, p.hasMAC, p.macs, p.guest, p.floating = true, false, nil, false, nil
	return odd
}

// isProcess tells whether an object is of a process of its server.
func isProcess(w *v3.WorkloadEndpoint) bool {
	if w == nil {
		return false
	}
	set, _ := w.Settings()
	return set.HostProcess
}

func comparePorts(a, b namedPort) int {
	if c := strings.Compare(a.name.Value(), b.name.Value()); c != 0 {
		return c
	}
	if a.proto != b.proto {
		return int(a.proto) - int(b.proto)
	}
	return int(a.port) - int(b.port)
}

// endpointNets reads the addresses of an endpoint. An address that can never
// be one workload's would capture the traffic of others; link-local ones of
// either family include the gateway of every workload.
func endpointNets(texts []string) ([]netip.Prefix, error) {
	var nets []netip.Prefix
	for i, text := range texts {
		field := fmt.Sprintf("spec.ipNetworks[%d]", i)
		p, err := parseNet(text)
		if err != nil {
			return nil, fieldErr(field, err)
		}
		a := p.Addr()
		switch {
		case !p.IsSingleIP():
			return nil, fieldErrf(field, "%s: want a single address (/32 or /128)", text)
		case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.IsLinkLocalUnicast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return nil, fieldErrf(field, "%s: want an address that a workload can have", text)
		}
		if !slices.Contains(nets, p) {
			nets = append(nets, p)
		}
	}
	return slices.Clip(nets), nil
}

// displayName is the name that users know a policy by (it may be stored under
// another one).
func displayName(k Key, m *v3.ObjectMeta, tier string) string {
	if text, ok := m.Annotations["projectcalico.org/metadata"]; ok {
		var meta struct {
			Name string `json:"name"`
		}
		if json.Unmarshal([]byte(text), &meta) == nil && meta.Name != "" {
			return meta.Name
		}
	}
	if m.Name != "" && m.Name != k.Name {
		return m.Name
	}
	if tierName(tier) == "default" && k.Kind != kindStagedKube {
		return strings.TrimPrefix(k.Name, "default.")
	}
	return k.Name
}

// lower tells whether a comes before b: by namespace, then by name.
func (a EndpointID) lower(b EndpointID) bool {
	if a.Namespace != b.Namespace {
		return a.Namespace < b.Namespace
	}
	return a.Name < b.Name
}
