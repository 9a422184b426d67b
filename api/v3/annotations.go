// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// AnnotationPrefix begins the annotations that refine an object where the model
// has no member. A name after it that is not known is an error: a setting that
// is misspelt must not count as set.
const AnnotationPrefix = "muslin/"

// PeerSettings is what annotations on a BGPPeer say.
type PeerSettings struct {
	ASOverride       bool           // as-override: the peer's AS number in the path becomes ours
	RemovePrivateAS  bool           // remove-private-as: private AS numbers leave the path
	Prepend          uint8          // prepend: our AS number so many times more in the path
	DefaultOriginate bool           // default-originate: a default route to this node
	GracefulShutdown bool           // graceful-shutdown: RFC 8326
	ThirdParty       bool           // next-hop: ThirdParty (RFC 4271 section 5.1.3)
	Untrusted        bool           // origin-guard: Enabled although the configuration disables it
	Trusted          bool           // origin-guard: Disabled
	PassUnknown      *bool          // pass-unknown-attributes: those of the peer go on with its routes (RFC 4271 section 9)
	Communities      []AnyCommunity // communities: added to everything that is sent
	MaxPrefixes      *uint32        // max-prefixes: how many are taken of each family, 0 for no bound
	MaxPrefixAction  string         // max-prefixes-action: Discard, Warn, Restart or Shutdown
	Shutdown         *string        // shutdown: no session, and the reason that the peer is told (RFC 9003)
	ExtendedNextHop  *bool          // extended-next-hop: IPv4 routes with IPv6 next hops (RFC 8950)
	AddPath          *uint8         // add-path: how many paths per prefix are sent, 0 for the best alone (RFC 7911)
	ListenRange      []netip.Prefix // listen-range: sessions from anybody in these networks
	ListenAS         [][2]uint32    // listen-as: AS numbers that they may have, first and last of each row
	ListenLimit      int            // listen-limit: how many at a time, 0 for the default
	Interfaces       []string       // interface: with the router at the other end of each, found by router advertisement (RFC 4861)
	RemoteAS         string         // remote-as: External or Internal: any AS number but ours, or ours
	Role             string         // role: what this node is to the peer (RFC 9234)
	RoleStrict       bool           // role-strict: the peer must say what it is
	Timers           Timers
	BFD              BFD
}

// ConfigurationSettings is what annotations on a BGPConfiguration say.
type ConfigurationSettings struct {
	EBGPRequiresPolicy bool             // ebgp-requires-policy: RFC 8212 to the letter
	Trusting           bool             // origin-guard: Disabled
	PassUnknown        bool             // pass-unknown-attributes: of every peer that says nothing else
	Timers             Timers           // of the mesh between nodes
	BFD                BFD              // of the mesh between nodes
	ThroughDefault     bool             // next-hops-through-default: a default route may lead to next hops
	BMP                []netip.AddrPort // bmp: monitoring stations (RFC 7854)
}

// NodeSettings is what annotations on a Node say.
type NodeSettings struct {
	GracefulShutdown bool           // graceful-shutdown: on every session of the node
	MayAnnounce      []netip.Prefix // may-announce: beside what is bound to the node
	Announce         []netip.Addr   // announce: addresses of the node itself
	ControlPlaneOnly bool           // program-routes: Disabled: what BGP learns stays out of the kernel
}

// EndpointSettings is what annotations on a WorkloadEndpoint say.
type EndpointSettings struct {
	Anycast     bool      // anycast: endpoints of other nodes that say so may have its addresses, too
	MACs        [][6]byte // macs: its interface may have these, too, beside spec.mac
	HostProcess bool      // host-process: a process of the server itself, with the addresses on its loopback
}

// maxMACs bounds the MAC addresses of an endpoint beside the first: each is an element for
// each of its addresses.
const maxMACs = 16

// RuleSettings is what annotations in the metadata of a rule say.
type RuleSettings struct {
	KeepEstablished bool // established: Keep: flows that were allowed before go on
}

// annotation reads the value of one annotation into settings.
type annotation[T any] struct {
	name string
	read func(*T, string) error
}

var peerAnnotations = slices.Concat(bfdAnnotations(func(s *PeerSettings) *BFD { return &s.BFD }), timerAnnotations(func(s *PeerSettings) *Timers { return &s.Timers }), []annotation[PeerSettings]{
	{"as-override", func(s *PeerSettings, v string) error { return readSwitch(&s.ASOverride, v) }},
	{"remove-private-as", func(s *PeerSettings, v string) error { return readSwitch(&s.RemovePrivateAS, v) }},
	{"default-originate", func(s *PeerSettings, v string) error { return readSwitch(&s.DefaultOriginate, v) }},
	{"graceful-shutdown", func(s *PeerSettings, v string) error { return readSwitch(&s.GracefulShutdown, v) }},
	{"extended-next-hop", func(s *PeerSettings, v string) error {
		var on bool
		err := readSwitch(&on, v)
		if err == nil {
			s.ExtendedNextHop = &on
		}
		return err
	}},
	{"prepend", func(s *PeerSettings, v string) error {
		n, err := strconv.ParseUint(v, 10, 8)
		if err != nil || n < 1 || n > 10 {
			return fmt.Errorf("%q: want 1–10", v)
		}
		s.Prepend = uint8(n)
		return nil
	}},
	{"next-hop", func(s *PeerSettings, v string) error {
		if v != "ThirdParty" {
			return fmt.Errorf("%q: want ThirdParty; for the others there is spec.nextHopMode", v)
		}
		s.ThirdParty = true
		return nil
	}},
	{"max-prefixes", func(s *PeerSettings, v string) error {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return fmt.Errorf("%q: want 0–2147483647", v)
		}
		most := uint32(n)
		s.MaxPrefixes = &most
		return nil
	}},
	{"max-prefixes-action", func(s *PeerSettings, v string) error {
		switch v {
		case "Discard", "Warn", "Restart", "Shutdown":
			s.MaxPrefixAction = v
			return nil
		}
		return fmt.Errorf("%q: want Discard, Warn, Restart or Shutdown", v)
	}},
	{"shutdown", func(s *PeerSettings, v string) error {
		if len(v) > 255 || strings.ContainsFunc(v, unicode.IsControl) {
			return fmt.Errorf("%q: want at most 255 bytes of text", v)
		}
		s.Shutdown = &v
		return nil
	}},
	{"add-path", func(s *PeerSettings, v string) error {
		n, err := strconv.ParseUint(v, 10, 8)
		if err != nil {
			return fmt.Errorf("%q: want 0–255", v)
		}
		paths := uint8(n)
		s.AddPath = &paths
		return nil
	}},
	{"listen-range", func(s *PeerSettings, v string) error {
		list, err := readList(v, func(text string) (netip.Prefix, error) {
			p, err := ParseNetwork(text)
			if err == nil && (p.Addr().IsMulticast() || p.Addr().IsLinkLocalUnicast()) {
				err = fmt.Errorf("%q: nobody connects from there", p)
			}
			return p, err
		})
		s.ListenRange = list
		return err
	}},
	{"listen-as", func(s *PeerSettings, v string) error {
		list, err := readList(v, func(text string) ([2]uint32, error) {
			first, last, row := strings.Cut(text, "-")
			if !row {
				last = first
			}
			a, err1 := ParseASNumber(first)
			b, err2 := ParseASNumber(last)
			if err1 != nil || err2 != nil || a == 0 || b < a || b == 1<<32-1 {
				return [2]uint32{}, fmt.Errorf("%q: want AS numbers and rows of them, such as 64999,65000-65099", text)
			}
			return [2]uint32{uint32(a), uint32(b)}, nil
		})
		s.ListenAS = list
		return err
	}},
	{"listen-limit", func(s *PeerSettings, v string) error {
		n, err := strconv.ParseUint(v, 10, 15)
		if err != nil || n == 0 {
			return fmt.Errorf("%q: want 1–32767", v)
		}
		s.ListenLimit = int(n)
		return nil
	}},
	{"interface", func(s *PeerSettings, v string) error {
		var names []string
		for text := range strings.SplitSeq(v, ",") {
			name := strings.TrimSpace(text)
			switch {
			case name == "" || len(name) > 15 || name == "." || name == ".." || strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r == ':' || r == '%' || r <= ' ' || r >= 0x7f }):
				return fmt.Errorf("%q: want the name of an interface, such as eth1, several with commas", text)
			case name == "lo":
				return fmt.Errorf("%q: there is nobody at the other end", text)
			case slices.Contains(names, name):
				return fmt.Errorf("%q: is named twice", name)
			}
			names = append(names, name)
		}
		s.Interfaces = names
		return nil
	}},
	{"remote-as", func(s *PeerSettings, v string) error {
		if v != "External" && v != "Internal" {
			return fmt.Errorf("%q: want External or Internal; a number is spec.asNumber", v)
		}
		s.RemoteAS = v
		return nil
	}},
	{"role", func(s *PeerSettings, v string) error {
		if !slices.Contains(roles, v) {
			return fmt.Errorf("%q: want %s, which is what this node is to the peer", v, strings.Join(roles, ", "))
		}
		s.Role = v
		return nil
	}},
	{"role-strict", func(s *PeerSettings, v string) error { return readSwitch(&s.RoleStrict, v) }},
	{"origin-guard", func(s *PeerSettings, v string) error {
		err := readSwitch(&s.Untrusted, v)
		s.Trusted = err == nil && !s.Untrusted
		return err
	}},
	{"pass-unknown-attributes", func(s *PeerSettings, v string) error {
		var on bool
		err := readSwitch(&on, v)
		if err == nil {
			s.PassUnknown = &on
		}
		return err
	}},
	{"communities", func(s *PeerSettings, v string) error {
		list, err := readList(v, ParseAnyCommunity)
		s.Communities = list
		return err
	}},
})

var configurationAnnotations = slices.Concat(bfdAnnotations(func(s *ConfigurationSettings) *BFD { return &s.BFD }), timerAnnotations(func(s *ConfigurationSettings) *Timers { return &s.Timers }), []annotation[ConfigurationSettings]{
	{"keepalive-time", func(s *ConfigurationSettings, v string) error {
		return readSeconds(&s.Timers.Keepalive, v, time.Second, "")
	}},
	{"ebgp-requires-policy", func(s *ConfigurationSettings, v string) error { return readSwitch(&s.EBGPRequiresPolicy, v) }},
	{"pass-unknown-attributes", func(s *ConfigurationSettings, v string) error { return readSwitch(&s.PassUnknown, v) }},
	{"next-hops-through-default", func(s *ConfigurationSettings, v string) error { return readSwitch(&s.ThroughDefault, v) }},
	{"origin-guard", func(s *ConfigurationSettings, v string) error {
		var on bool
		err := readSwitch(&on, v)
		s.Trusting = err == nil && !on
		return err
	}},
	{"bmp", func(s *ConfigurationSettings, v string) error {
		var list []netip.AddrPort
		for text := range strings.SplitSeq(v, ",") {
			a, err := netip.ParseAddrPort(strings.TrimSpace(text))
			if err != nil || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
				return fmt.Errorf("%q: want ADDRESS:PORT, several with commas", text)
			}
			list = append(list, a)
		}
		s.BMP = list
		return nil
	}},
})

var nodeAnnotations = []annotation[NodeSettings]{
	{"graceful-shutdown", func(s *NodeSettings, v string) error { return readSwitch(&s.GracefulShutdown, v) }},
	{"program-routes", func(s *NodeSettings, v string) error {
		on := false
		err := readSwitch(&on, v)
		s.ControlPlaneOnly = err == nil && !on
		return err
	}},
	{"announce", func(s *NodeSettings, v string) error {
		list, err := readList(v, func(text string) (netip.Addr, error) {
			a, err := ParseAddr(text)
			if err == nil && !a.IsGlobalUnicast() {
				err = fmt.Errorf("%s: want addresses of this server that others may route to", a)
			}
			return a, err
		})
		s.Announce = list
		return err
	}},
	{"may-announce", func(s *NodeSettings, v string) error {
		list, err := readList(v, ParseNetwork)
		s.MayAnnounce = list
		return err
	}},
}

// Settings reads the annotations of a BGPPeer. With errors it holds what could
// be read; each error is a *FieldError.
func (p *BGPPeer) Settings() (PeerSettings, []error) {
	s, errs := settings(p, peerAnnotations)
	var keepalive *time.Duration
	if k := p.Spec.KeepaliveTime; k != nil {
		keepalive = &k.Duration
	}
	if s.RoleStrict && s.Role == "" {
		info, _ := InfoFor(p)
		f := newFaults(info, p)
		f.add("metadata.annotations["+strconv.Quote(AnnotationPrefix+"role-strict")+"]", "needs %srole", AnnotationPrefix)
		errs = append(errs, f.list[0])
	}
	return s, slices.Concat(errs, s.BFD.check(p), s.Timers.check(p, keepalive))
}

// Asks tells whether an annotation of ours is there, whatever is in it.
func (p *BGPPeer) Asks(name string) bool {
	_, ok := p.Metadata.Annotations[AnnotationPrefix+name]
	return ok
}

// Settings reads the annotations of a BGPConfiguration, as those of a BGPPeer.
func (c *BGPConfiguration) Settings() (ConfigurationSettings, []error) {
	s, errs := settings(c, configurationAnnotations)
	return s, slices.Concat(errs, s.BFD.check(c), s.Timers.check(c, s.Timers.Keepalive), c.ofOneNode())
}

// SettingsOn reads the annotations that hold on one node: each as the node's own
// configuration has it, node.NAME, else as the one for all has it, default. One
// that cannot be read counts as absent. Either may be nil.
func SettingsOn(global, own *BGPConfiguration) (s ConfigurationSettings, errs []error) {
	if global != nil {
		s, errs = global.Settings()
	}
	if own == nil {
		return s, errs
	}
	all := s
	more := readSettings(&s, own, configurationAnnotations)
	s.BFD, s.ThroughDefault = all.BFD, all.ThroughDefault // of all nodes: see ofOneNode
	return s, append(append(errs, more...), own.ofOneNode()...)
}

// ofOneNode refuses, on the configuration of one node, what holds for all nodes
// or for none: there it would be without effect.
func (c *BGPConfiguration) ofOneNode() (errs []error) {
	if c.Metadata.Name == "default" {
		return nil
	}
	info, _ := InfoFor(c)
	f := newFaults(info, c)
	for _, key := range slices.Sorted(maps.Keys(c.Metadata.Annotations)) {
		name, _ := strings.CutPrefix(key, AnnotationPrefix)
		if name == "next-hops-through-default" || name == "bfd" || strings.HasPrefix(name, "bfd-") || strings.HasSuffix(name, "-time") {
			f.add("metadata.annotations["+strconv.Quote(key)+"]", "acts on the BGPConfiguration default only")
		}
	}
	for _, e := range f.list {
		errs = append(errs, e)
	}
	return errs
}

// Settings reads the annotations of a Node, as those of a BGPPeer.
func (n *Node) Settings() (NodeSettings, []error) { return settings(n, nodeAnnotations) }

var endpointAnnotations = []annotation[EndpointSettings]{
	{"anycast", func(s *EndpointSettings, v string) error { return readSwitch(&s.Anycast, v) }},
	{"macs", func(s *EndpointSettings, v string) error {
		list, err := readList(v, func(text string) ([6]byte, error) {
			mac, err := net.ParseMAC(text)
			if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
				return [6]byte{}, fmt.Errorf("%q: want unicast addresses of six octets, several with commas", text)
			}
			return [6]byte(mac), nil
		})
		if len(list) > maxMACs {
			return fmt.Errorf("%d addresses: at most %d", len(list), maxMACs)
		}
		s.MACs = list
		return err
	}},
	{"host-process", func(s *EndpointSettings, v string) error { return readSwitch(&s.HostProcess, v) }},
}

// Settings reads the annotations of a WorkloadEndpoint, as those of a BGPPeer. Nearly no
// endpoint has any, and there are many.
func (w *WorkloadEndpoint) Settings() (s EndpointSettings, errs []error) {
	for key := range w.Metadata.Annotations {
		if strings.HasPrefix(key, AnnotationPrefix) {
			return settings(w, endpointAnnotations)
		}
	}
	return s, nil
}

// Settings reads the annotations of a rule.
func (r *Rule) Settings() (s RuleSettings, err error) {
	if r.Metadata == nil {
		return s, nil
	}
	for _, key := range slices.Sorted(maps.Keys(r.Metadata.Annotations)) {
		name, ours := strings.CutPrefix(key, AnnotationPrefix)
		switch v := r.Metadata.Annotations[key]; {
		case !ours:
		case name != "established":
			return s, fmt.Errorf("%q: not known for a rule: want %sestablished", key, AnnotationPrefix)
		case v != "Keep" && v != "Cut":
			return s, fmt.Errorf("%q: %q: want Keep or Cut", key, v)
		default:
			s.KeepEstablished = v == "Keep"
		}
	}
	return s, nil
}

func settings[T any](r Resource, known []annotation[T]) (s T, errs []error) {
	errs = readSettings(&s, r, known)
	return s, errs
}

// readSettings reads annotations over what s has.
func readSettings[T any](s *T, r Resource, known []annotation[T]) (errs []error) {
	info, _ := InfoFor(r)
	f := newFaults(info, r)
	names := make([]string, len(known))
	for i, a := range known {
		names[i] = a.name
	}
	values := r.Meta().Annotations
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name, ours := strings.CutPrefix(key, AnnotationPrefix)
		if !ours {
			continue
		}
		path := "metadata.annotations[" + strconv.Quote(key) + "]"
		found := false
		for _, a := range known {
			if a.name != name {
				continue
			}
			found = true
			if err := a.read(s, values[key]); err != nil {
				f.add(path, "%v", err)
			}
		}
		if !found {
			f.add(path, "not known for a %s: want %s", info.Kind, strings.Join(slices.Sorted(slices.Values(names)), ", "))
		}
	}
	for _, e := range f.list {
		errs = append(errs, e)
	}
	return errs
}

// Ignored are the annotations of ours on an object whose kind has none of this name. On
// the kinds with Settings such a one is an error.
func Ignored(r Resource) (keys []string) {
	switch r.(type) {
	case *BGPPeer, *BGPConfiguration, *Node, *WorkloadEndpoint:
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(r.Meta().Annotations)) {
		name, ours := strings.CutPrefix(key, AnnotationPrefix)
		if _, felix := r.(*FelixConfiguration); ours && !(felix && name == "denied-log") {
			keys = append(keys, key)
		}
	}
	return keys
}

// roles are those of RFC 9234 section 4.
var roles = []string{"Provider", "RouteServer", "RouteServerClient", "Customer", "Peer"}

// readList reads a list with commas. With a mistake in it there is nothing of it: what
// stands before the mistake may be what was to be taken back.
func readList[T any](v string, read func(string) (T, error)) (list []T, err error) {
	for text := range strings.SplitSeq(v, ",") {
		x, err := read(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	return list, nil
}

func readSwitch(into *bool, v string) error {
	switch v {
	case "Enabled":
		*into = true
	case "Disabled":
		*into = false
	default:
		return fmt.Errorf("%q: want Enabled or Disabled", v)
	}
	return nil
}

// annotations takes in what is wrong with the annotations of an object.
func (f *faults) annotations(errs []error) {
	for _, err := range errs {
		if e, ok := err.(*FieldError); ok {
			f.add(e.Path, "%s", e.Problem)
		}
	}
}
