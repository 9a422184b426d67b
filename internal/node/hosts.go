// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"strconv"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

// This page is what the daemon does for host endpoints beside what policy and the
// packet filter do: failsafe ports, addresses of interfaces, and the way of a
// packet through this server.

// The failsafe ports when nobody says otherwise. They are Calico's, and those of
// BFD (RFC 5881 section 4, RFC 5883 section 5): a BGP session that BFD watches ends
// when BFD is not heard.
const (
	failsafeInbound  = "tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667,udp:3784,udp:4784"
	failsafeOutbound = "udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667,udp:3784,udp:4784"
)

// parseFailsafes reads PROTOCOL:PORT or PROTOCOL:NETWORK:PORT, separated by commas;
// an IPv6 network may be in brackets. A port alone is of TCP, and none is "none".
func parseFailsafes(text string) (list []policy.Failsafe, err error) {
	if strings.EqualFold(strings.TrimSpace(text), "none") {
		return nil, nil
	}
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		proto, rest, some := strings.Cut(item, ":")
		if !some {
			proto, rest = "tcp", item
		}
		network, port := "", rest
		if i := strings.LastIndexByte(rest, ':'); i >= 0 {
			network, port = strings.Trim(rest[:i], "[]"), rest[i+1:]
		}
		var f policy.Failsafe
		n, err := strconv.ParseUint(port, 10, 16)
		number, known := v3.ProtocolName(proto).Number()
		if err != nil || n == 0 || !known || !policy.HasPorts(number) {
			return nil, fmt.Errorf("%q: want PROTOCOL:PORT or PROTOCOL:NETWORK:PORT, such as tcp:22, of tcp, udp or sctp", item)
		}
		f.Proto, f.Port = number, uint16(n)
		if network != "" {
			if f.Net, err = v3.ParseNetwork(network); err != nil {
				return nil, fmt.Errorf("%q: %w", item, err)
			}
		}
		list = append(list, f)
	}
	return list, nil
}

// failsafeText writes a list of ProtoPort, as JSON has it, in the form that
// parseFailsafes reads.
func failsafeText(list []any) string {
	if len(list) == 0 {
		return "none"
	}
	var items []string
	for _, v := range list {
		m, _ := v.(map[string]any)
		part := func(name string) string {
			if v, ok := m[name]; ok {
				return fmt.Sprint(v)
			}
			return ""
		}
		item := part("protocol") + ":"
		if network := part("net"); network != "" {
			item += "[" + network + "]:"
		}
		items = append(items, item+part("port"))
	}
	return strings.Join(items, ",")
}

// applyHostInterfaces tells policy which addresses the interfaces of this host
// have, if a host endpoint finds its interface by them, or there are floating IPs.
func (l *loop) applyHostInterfaces() error {
	if !l.ifacesDue || !l.model.index.NeedsHostInterfaces() {
		return nil
	}
	addrs, err := endpoint.InterfaceAddrs()
	if err != nil {
		return err
	}
	l.model.index.HostInterfaces(addrs)
	l.ifacesDue = false
	return nil
}

// askHosts is what the host endpoints of this server say of a packet on its way
// through it, as it comes in and as it leaves.
func (k *walk) askHosts(w *world, self string, prefixes []string, way route.Way) (in, out []policy.Decision) {
	f := k.flow
	f.Via = policy.Passage{Node: self, In: k.in, FromWorkload: isWorkload(prefixes, k.in),
		Process: k.fromHere && w.IsProcess(f.From) || k.toHere && w.IsProcess(f.To)}
	switch {
	case !way.Local:
		f.Via.Out, f.Via.ToWorkload = way.Device, isWorkload(prefixes, way.Device)
	case k.in == "":
		f.Via.Out = policy.Loopback
	}
	t := policy.Evaluate(&w.World, f)
	return t.In, t.Out
}

// explainHost is a step at a host endpoint.
func explainHost(dec *policy.Decision) api.ExplainStep {
	s := explainStep(dec)
	s.Where = "host-" + s.Where
	if dec.Reason == policy.ByFailsafe {
		s.Object = "FelixConfiguration failsafe ports"
	}
	return s
}
