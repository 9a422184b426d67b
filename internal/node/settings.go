// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/selector"
)

// settings are the data plane's settings once every source has been asked.
type settings struct {
	prefixes      []string // of workload interfaces
	hostAction    string   // Drop, Accept or Return
	routeProtocol int
	workloadIPs   bool // every endpoint is a route of its own
	metric4       int
	metric6       int
	forwarding    bool
	clusterRoutes string // of which pools Felix would program the routes
	allowVXLAN    bool   // workloads may send encapsulated packets
	allowIPIP     bool
	vxlanPort     int
	logPrefix     string // of rules that log
	logLimit      acl.Rate
	logBurst      uint32
	denied        acl.Rate // at which denied packets are logged
	failsafes     [2][]policy.Failsafe
	spareHosts    bool // what goes to servers is not translated
	anySource     bool // endpoints may have allowed source networks
	floatingIPs   bool // endpoints that are not OpenStack's have theirs
	natAddress    netip.Addr
	metadataAddr  netip.Addr // of OpenStack's metadata service
	metadataPort  int
	stack         acl.OpenStack // what follows from these
}

func (s settings) equal(o settings) bool {
	a, b := s, o
	a.prefixes, b.prefixes = nil, nil
	return reflect.DeepEqual(a, b) && slices.Equal(s.prefixes, o.prefixes)
}

// setting is a parameter under its two names, and its value when nobody says.
type setting struct {
	field string // in FelixConfiguration.spec, or an annotation of ours
	name  string // in the environment (FELIX_…), the file and annotations
	value string
}

// defaultPrefix is what names of workload interfaces start with when nobody
// says otherwise.
const defaultPrefix = "cali"

var known = []setting{
	{"interfacePrefix", "InterfacePrefix", defaultPrefix},
	{"defaultEndpointToHostAction", "DefaultEndpointToHostAction", "Drop"},
	{"deviceRouteProtocol", "DeviceRouteProtocol", "177"},
	{"routeSource", "RouteSource", "CalicoIPAM"},
	{"ipv4NormalRoutePriority", "IPv4NormalRoutePriority", "1024"},
	{"ipv6NormalRoutePriority", "IPv6NormalRoutePriority", "1024"},
	{"ipForwarding", "IPForwarding", "Enabled"},
	{"programClusterRoutes", "ProgramClusterRoutes", "EnabledIPIPOnly"},
	{"allowVXLANPacketsFromWorkloads", "AllowVXLANPacketsFromWorkloads", "false"},
	{"allowIPIPPacketsFromWorkloads", "AllowIPIPPacketsFromWorkloads", "false"},
	{"vxlanPort", "VXLANPort", "4789"},
	{"logPrefix", "LogPrefix", "calico-packet"},
	{"logActionRateLimit", "LogActionRateLimit", ""},
	{"logActionRateLimitBurst", "LogActionRateLimitBurst", "5"},
	{v3.AnnotationPrefix + "denied-log", "DeniedLog", "Disabled"},
	{"workloadSourceSpoofing", "WorkloadSourceSpoofing", "Disabled"},
	{"floatingIPs", "FloatingIPs", "Disabled"},
	{"metadataAddr", "MetadataAddr", "127.0.0.1"},
	{"metadataPort", "MetadataPort", "8775"},
	{"natOutgoingAddress", "NATOutgoingAddress", ""},
	{"natOutgoingExclusions", "NATOutgoingExclusions", "IPPoolsOnly"},
	{"failsafeInboundHostPorts", "FailsafeInboundHostPorts", failsafeInbound},
	{"failsafeOutboundHostPorts", "FailsafeOutboundHostPorts", failsafeOutbound},
}

// felixSources are the places a setting may come from, apart from a flag.
type felixSources struct {
	environ []string          // of the process
	file    map[string]string // [global] of felix.cfg, by lower-case name
	configs map[string]*v3.FelixConfiguration
	node    string
	labels  selector.Map // of this node's Node resource
}

// resolve asks, highest first: explicit flags (by field name), environment,
// file, node.NAME, the oldest configuration whose nodeSelector selects this
// node, default, built-in. A value that cannot be used is reported and the
// next source is asked.
func resolve(explicit map[string]string, src felixSources) (settings, []problem) {
	var problems []problem
	s := settings{}
	resources, bad := src.resources()
	problems = append(problems, bad...)
	for _, k := range known {
		try := func(where, v string) bool {
			if err := s.set(k.field, v); err != nil {
				problems = append(problems, problem{object: where, field: k.field, text: err.Error()})
				return false
			}
			return true
		}
		if v := explicit[k.field]; v != "" && try("flag", v) {
			continue
		}
		if v, ok := src.env(k.name); ok && try("environment", v) {
			continue
		}
		if v, ok := src.file[strings.ToLower(k.name)]; ok && try("felix.cfg", v) {
			continue
		}
		if slices.ContainsFunc(resources, func(r resource) bool {
			v, ok := r.value(k)
			return ok && try("FelixConfiguration "+r.name, v)
		}) {
			continue
		}
		_ = s.set(k.field, k.value)
	}
	return s, problems
}

func (s *settings) set(field, v string) error {
	oneOf := func(allowed ...string) (string, error) {
		for _, a := range allowed {
			if strings.EqualFold(a, v) {
				return a, nil
			}
		}
		return "", fmt.Errorf("%q: want %s", v, strings.Join(allowed, ", "))
	}
	number := func(lo, hi int) (int, error) {
		n, err := strconv.Atoi(v)
		if err != nil || n < lo || n > hi {
			return 0, fmt.Errorf("%q: want %d–%d", v, lo, hi)
		}
		return n, nil
	}
	var err error
	switch field {
	case "interfacePrefix":
		var list []string
		for p := range strings.SplitSeq(v, ",") {
			p = strings.TrimSpace(p)
			if p == "" || len(p) > 14 || strings.ContainsAny(p, "/*% \t") {
				return fmt.Errorf("%q: want interface name prefixes of 1–14 characters, separated by commas", v)
			}
			if strings.HasPrefix("lo", p) {
				return fmt.Errorf("%q: prefix %q would claim the loopback interface", v, p)
			}
			list = append(list, p)
		}
		s.prefixes = list
	case "defaultEndpointToHostAction":
		s.hostAction, err = oneOf("Drop", "Accept", "Return")
	case "deviceRouteProtocol":
		s.routeProtocol, err = number(4, 255)
	case "routeSource":
		v, err = oneOf("CalicoIPAM", "WorkloadIPs")
		s.workloadIPs = v == "WorkloadIPs"
	case "ipv4NormalRoutePriority":
		s.metric4, err = number(1, 2147483646)
	case "ipv6NormalRoutePriority":
		s.metric6, err = number(1, 2147483646)
	case "ipForwarding":
		v, err = oneOf("Enabled", "Disabled")
		s.forwarding = v == "Enabled"
	case "allowVXLANPacketsFromWorkloads":
		s.allowVXLAN, err = strconv.ParseBool(v)
	case "allowIPIPPacketsFromWorkloads":
		s.allowIPIP, err = strconv.ParseBool(v)
	case "vxlanPort":
		s.vxlanPort, err = number(1, 65535)
	case "workloadSourceSpoofing":
		v, err = oneOf("Any", "Disabled")
		s.anySource = v == "Any"
	case "floatingIPs":
		v, err = oneOf("Enabled", "Disabled")
		s.floatingIPs = v == "Enabled"
	case "metadataAddr":
		s.metadataAddr = netip.Addr{}
		if strings.EqualFold(v, "none") {
			return nil
		}
		if s.metadataAddr, err = v3.ParseAddr(v); err != nil || !s.metadataAddr.Is4() {
			return fmt.Errorf("%q: want an IPv4 address, or None", v)
		}
	case "metadataPort":
		s.metadataPort, err = number(1, 65535)
	case "natOutgoingAddress":
		s.natAddress = netip.Addr{}
		if v == "" || strings.EqualFold(v, "none") {
			return nil
		}
		if s.natAddress, err = v3.ParseAddr(v); err != nil {
			return fmt.Errorf("%q: want an address", v)
		}
	case "natOutgoingExclusions":
		v, err = oneOf("IPPoolsOnly", "IPPoolsAndHostIPs")
		s.spareHosts = v == "IPPoolsAndHostIPs"
	case "failsafeInboundHostPorts":
		s.failsafes[policy.Ingress], err = parseFailsafes(v)
	case "failsafeOutboundHostPorts":
		s.failsafes[policy.Egress], err = parseFailsafes(v)
	case "programClusterRoutes":
		s.clusterRoutes, err = oneOf("Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly", "Enabled")
	case "logPrefix":
		if len(v) > 64 {
			return fmt.Errorf("%q: want at most 64 characters", v)
		}
		s.logPrefix = v
	case "logActionRateLimit":
		s.logLimit, err = parseRate(v)
	case "logActionRateLimitBurst":
		var n int
		n, err = number(0, 9999)
		s.logBurst = uint32(n)
	case v3.AnnotationPrefix + "denied-log":
		s.denied, err = parseRate(v)
		s.denied.Burst = s.denied.Packets
	}
	return err
}

// parseRate reads a rate as Felix does: 10/minute. Nothing, and Disabled, is none.
func parseRate(v string) (acl.Rate, error) {
	units := map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}
	if v == "" || strings.EqualFold(v, "Disabled") {
		return acl.Rate{}, nil
	}
	count, unit, _ := strings.Cut(v, "/")
	n, err := strconv.ParseUint(count, 10, 32)
	if err != nil || n < 1 || n > 9999 || units[unit] == 0 {
		return acl.Rate{}, fmt.Errorf("%q: want 1–9999 in a unit of time, such as 10/second or 5/minute; units are second, minute, hour, day", v)
	}
	return acl.Rate{Packets: uint32(n), Unit: units[unit]}, nil
}

// spareUplinks drops prefixes that would make an uplink of this host a
// workload's interface: the host would be cut off, and not heal by itself.
func spareUplinks(prefixes, uplinks []string) (kept []string, err error) {
	var errs []error
	for _, p := range prefixes {
		i := slices.IndexFunc(uplinks, func(name string) bool { return strings.HasPrefix(name, p) })
		if i < 0 {
			kept = append(kept, p)
			continue
		}
		errs = append(errs, fmt.Errorf("%q would claim %s, by which others reach this host: choose a prefix of workload interfaces", p, uplinks[i]))
	}
	return kept, errors.Join(errs...)
}

func (src *felixSources) env(name string) (string, bool) {
	for _, kv := range src.environ {
		k, v, _ := strings.Cut(kv, "=")
		if strings.EqualFold(k, "FELIX_"+name) && v != "" {
			return v, true
		}
	}
	return "", false
}

// resource is a FelixConfiguration as a bag of values.
type resource struct {
	name        string
	spec        map[string]any
	annotations map[string]string
}

func (r resource) value(k setting) (string, bool) {
	if v := r.annotations["config.projectcalico.org/"+k.name]; v != "" {
		return v, true
	}
	if strings.HasPrefix(k.field, v3.AnnotationPrefix) {
		return r.annotations[k.field], r.annotations[k.field] != ""
	}
	switch v := r.spec[k.field].(type) {
	case string:
		return v, v != ""
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case bool:
		return strconv.FormatBool(v), true
	case []any:
		return failsafeText(v), true
	}
	return "", false
}

// resources returns the configurations that concern this node, in order of
// precedence.
func (src *felixSources) resources() (list []resource, problems []problem) {
	add := func(name string) {
		c := src.configs[name]
		if c == nil {
			return
		}
		b, err := json.Marshal(c.Spec)
		r := resource{name: name, annotations: c.Metadata.Annotations}
		if err == nil {
			err = json.Unmarshal(b, &r.spec)
		}
		if err != nil {
			problems = append(problems, problem{object: "FelixConfiguration " + name, text: err.Error()})
			return
		}
		list = append(list, r)
	}
	add("node." + src.node)
	best := ""
	for _, name := range slices.Sorted(maps.Keys(src.configs)) {
		c := src.configs[name]
		if name == "default" || strings.HasPrefix(name, "node.") || c.Spec.NodeSelector == "" {
			continue
		}
		sel, err := selector.Parse(c.Spec.NodeSelector)
		if err != nil {
			problems = append(problems, problem{object: "FelixConfiguration " + name, field: "spec.nodeSelector", text: err.Error()})
			continue
		}
		if sel.Match(src.labels) && (best == "" || created(c) < created(src.configs[best])) {
			best = name
		}
	}
	add(best)
	add("default")
	return list, problems
}

func created(r v3.Resource) string {
	if t := r.Meta().CreationTimestamp; t != nil {
		return *t
	}
	return ""
}

// readFelixFile reads the [global] section of an INI file. A file that is not
// there is an empty one.
func readFelixFile(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m := map[string]string{}
	section := ""
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := strings.TrimSpace(sc.Text())
		switch {
		case line == "", strings.HasPrefix(line, "#"), strings.HasPrefix(line, ";"):
		case strings.HasPrefix(line, "["):
			section = strings.ToLower(strings.Trim(line, "[] "))
		case section == "global":
			if k, v, ok := strings.Cut(line, "="); ok {
				m[strings.ToLower(strings.TrimSpace(k))] = strings.TrimSpace(v)
			}
		}
	}
	return m, nil
}
