// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/live"
)

// vty asks a daemon of FRR on a device over its socket, as vtysh does: that one takes 50 ms of a processor to start,
// each time, while the daemons of a lab are to get on.
func (l *Lab) vty(ctx context.Context, d *fabric.Device, daemon, command string) (text []byte, err error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", filepath.Join(l.dir(d.Name), daemon+".vty"))
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", d.Name, daemon, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	for _, word := range []string{"enable", command} { // bfdd shows nothing before
		if text, err = vtyCommand(c, word); err != nil {
			return nil, fmt.Errorf("%s: %s: %s: %w", d.Name, daemon, word, err)
		}
	}
	return text, nil
}

// vtyCommand sends a command, which ends with a zero, and reads the answer, which ends with three and the result.
func vtyCommand(c net.Conn, command string) ([]byte, error) {
	if _, err := c.Write(append([]byte(command), 0)); err != nil {
		return nil, err
	}
	var out []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		out = append(out, buf[:n]...)
		if text, ok := bytes.CutSuffix(out[:max(0, len(out)-1)], []byte{0, 0, 0}); ok {
			if result := out[len(out)-1]; result != 0 {
				return nil, fmt.Errorf("result %d: %s", result, text)
			}
			return text, nil
		}
	}
}

// frrPath is a path of bgpd's table, as far as it is looked at.
type frrPath struct {
	Valid    bool   `json:"valid"`
	PeerID   string `json:"peerId"`
	Path     string `json:"path"`
	NextHops []struct {
		IP    netip.Addr `json:"ip"`
		Scope string     `json:"scope"`
	} `json:"nexthops"`
}

// frrPaths reads bgpd's table.
func (l *Lab) frrPaths(ctx context.Context, d *fabric.Device, family fabric.Family, t live.Table) error {
	out, err := l.vty(ctx, d, "bgpd", fmt.Sprintf("show bgp %s unicast json", family))
	if err != nil {
		return err
	}
	return l.readFRR(d, out, t)
}

func (l *Lab) readFRR(d *fabric.Device, text []byte, t live.Table) error {
	var table struct {
		Routes map[netip.Prefix][]frrPath `json:"routes"`
	}
	if err := json.Unmarshal(text, &table); err != nil {
		return fmt.Errorf("%s: bgpd's table: %w", d.Name, err)
	}
	for prefix, paths := range table.Routes {
		for _, p := range paths {
			if p.PeerID == "(unspec)" {
				if p.Valid { // else it has no such route, by a port that works
					t.At(prefix).Own = true
				}
				continue
			}
			from := l.peerNamed(d, p.PeerID)
			nextHop := from
			for _, n := range p.NextHops {
				if n.Scope != "link-local" && !n.IP.IsLinkLocalUnicast() {
					nextHop = l.names.Device(n.IP, from)
				}
			}
			as, err := asPath(p.Path)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", d.Name, prefix, err)
			}
			e := t.At(prefix)
			e.Paths = append(e.Paths, live.Path{From: from, NextHop: nextHop, ASPath: as, Unusable: !p.Valid})
		}
	}
	return nil
}

// peerNamed is the device that a daemon calls by an address or by the interface towards it.
func (l *Lab) peerNamed(d *fabric.Device, word string) string {
	a, err := netip.ParseAddr(word)
	switch {
	case err == nil && a.Zone() != "":
		word = a.Zone()
	case err == nil && a.IsLinkLocalUnicast(): // bgpd of 8.4 does not say on which port
		return l.behindPorts(d, a)
	case err == nil:
		return l.names.Device(a, word)
	}
	name, _ := l.peerAt(d, word, netip.Addr{})
	return name
}

// behindPorts is the device that has a link-local address behind any port of another.
func (l *Lab) behindPorts(d *fabric.Device, a netip.Addr) string {
	for i := range d.Interfaces {
		for _, o := range l.x.On(d.Interfaces[i].Segment) {
			if o.Device != d && l.linkLocal(o) == a {
				return o.Device.Name
			}
		}
	}
	return a.String()
}

// asPath reads AS numbers with spaces between them.
func asPath(text string) (list []uint32, err error) {
	for word := range strings.FieldsSeq(text) {
		n, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("AS path %q: %w", text, err)
		}
		list = append(list, uint32(n))
	}
	return list, nil
}
