// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"math"
	"strconv"
	"strings"
)

// A cluster has tens of thousands of workload endpoints and every node reads
// all of them when it starts, so they are read without reflection where that
// is safe: where the value is plain. A value is plain if it has only members
// that writers commonly write, each once, under its exact name, not null, and
// strings of ASCII without escapes. Any other value, a wrong one included, is
// left to encoding/json, which decides what it means.

// plain is a position in a JSON text. Every method reads one thing and is
// false, for good, when it is not there as expected.
type plain struct {
	text string
	at   int
	bad  bool
}

// plainEndpoint reads a plain value, and returns nil if it is not one. Strings
// of the result share the memory of one copy of the value.
func plainEndpoint(b []byte) *WorkloadEndpoint {
	p := plain{text: string(b)}
	w := &WorkloadEndpoint{}
	p.object(func(member string) int {
		switch member {
		case "kind":
			w.Kind = p.str()
			return 0
		case "apiVersion":
			w.APIVersion = p.str()
			return 1
		case "metadata":
			p.metadata(&w.Metadata)
			return 2
		case "spec":
			p.endpointSpec(&w.Spec)
			return 3
		}
		return -1
	})
	if p.space(); p.bad || p.at != len(p.text) {
		return nil
	}
	return w
}

func (p *plain) metadata(m *ObjectMeta) {
	p.object(func(member string) int {
		switch member {
		case "name":
			m.Name = p.str()
			return 0
		case "namespace":
			m.Namespace = p.str()
			return 1
		case "uid":
			m.UID = p.str()
			return 2
		case "resourceVersion":
			m.ResourceVersion = p.str()
			return 3
		case "generation":
			m.Generation = int64(p.number(math.MaxInt64))
			return 4
		case "creationTimestamp":
			s := p.str()
			m.CreationTimestamp = &s
			return 5
		case "labels":
			m.Labels = p.strMap()
			return 6
		case "annotations":
			m.Annotations = p.strMap()
			return 7
		}
		return -1
	})
}

func (p *plain) endpointSpec(s *WorkloadEndpointSpec) {
	p.object(func(member string) int {
		switch member {
		case "orchestrator":
			s.Orchestrator = p.str()
			return 0
		case "workload":
			s.Workload = p.str()
			return 1
		case "node":
			s.Node = p.str()
			return 2
		case "containerID":
			s.ContainerID = p.str()
			return 3
		case "pod":
			s.Pod = p.str()
			return 4
		case "endpoint":
			s.Endpoint = p.str()
			return 5
		case "serviceAccountName":
			s.ServiceAccountName = p.str()
			return 6
		case "ipNetworks":
			s.IPNetworks = p.strList()
			return 7
		case "ipv4Gateway":
			s.IPv4Gateway = p.str()
			return 8
		case "ipv6Gateway":
			s.IPv6Gateway = p.str()
			return 9
		case "profiles":
			s.Profiles = p.strList()
			return 10
		case "interfaceName":
			s.InterfaceName = p.str()
			return 11
		case "mac":
			s.MAC = p.str()
			return 12
		case "ports":
			s.Ports = []EndpointPort{}
			p.list(func() {
				var e EndpointPort
				p.port(&e)
				s.Ports = append(s.Ports, e)
			})
			return 13
		}
		return -1
	})
}

func (p *plain) port(e *EndpointPort) {
	p.object(func(member string) int {
		switch member {
		case "name":
			e.Name = p.str()
			return 0
		case "protocol":
			if p.space(); !strings.HasPrefix(p.text[p.at:], `"`) {
				e.Protocol.Num = uint8(p.number(math.MaxUint8))
				return 1
			}
			e.Protocol.Name = p.str()
			if n, err := strconv.ParseUint(e.Protocol.Name, 10, 8); err == nil {
				e.Protocol = ProtocolNumber(uint8(n))
			}
			return 1
		case "port":
			e.Port = uint16(p.number(math.MaxUint16))
			return 2
		case "hostPort":
			e.HostPort = uint16(p.number(math.MaxUint16))
			return 3
		case "hostIP":
			e.HostIP = p.str()
			return 4
		}
		return -1
	})
}

// object reads an object. value is called where the value of a member begins;
// it reads it and returns the member's number, or -1 for one that is not plain.
func (p *plain) object(value func(member string) int) {
	seen := 0
	p.items('{', '}', func() {
		member := p.str()
		p.expect(':')
		if p.bad {
			return
		}
		n := value(member)
		if n < 0 || seen&(1<<n) != 0 {
			p.bad = true
			return
		}
		seen |= 1 << n
	})
}

func (p *plain) list(item func()) { p.items('[', ']', item) }

// items reads what stands, separated by commas, between two brackets.
func (p *plain) items(open, end byte, item func()) {
	p.expect(open)
	if p.next(end) {
		return
	}
	for !p.bad {
		item()
		if p.next(end) {
			return
		}
		p.expect(',')
	}
}

func (p *plain) strList() []string {
	list := []string{}
	p.list(func() { list = append(list, p.str()) })
	return list
}

func (p *plain) strMap() map[string]string {
	m := map[string]string{}
	p.items('{', '}', func() {
		k := p.str()
		p.expect(':')
		m[k] = p.str()
	})
	return m
}

// str reads a string.
func (p *plain) str() string {
	p.expect('"')
	for i := p.at; !p.bad && i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == '"':
			s := p.text[p.at:i]
			p.at = i + 1
			return s
		case c == '\\' || c < ' ' || c >= 0x80:
			p.bad = true
		}
	}
	p.bad = true
	return ""
}

// number reads a natural number.
func (p *plain) number(limit uint64) uint64 {
	p.space()
	from := p.at
	for p.at < len(p.text) && '0' <= p.text[p.at] && p.text[p.at] <= '9' {
		p.at++
	}
	digits := p.text[from:p.at]
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > limit || len(digits) > 1 && digits[0] == '0' {
		p.bad = true
	}
	return n
}

// expect reads one character.
func (p *plain) expect(c byte) {
	if !p.next(c) {
		p.bad = true
	}
}

// next reads one character if it comes next.
func (p *plain) next(c byte) bool {
	if p.space(); p.bad || p.at >= len(p.text) || p.text[p.at] != c {
		return false
	}
	p.at++
	return true
}

func (p *plain) space() {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\n' || p.text[p.at] == '\t' || p.text[p.at] == '\r') {
		p.at++
	}
}
