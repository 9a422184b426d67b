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

// bgpd asks the BGP daemon of a device over its socket, as vtysh does: that one takes 50 ms of a processor to start,
// each time, while the daemons of a lab are to get on. A command ends with a zero, an answer with three and the
// result of the command.
func (l *Lab) bgpd(ctx context.Context, d *fabric.Device, command string) ([]byte, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", filepath.Join(l.dir(d.Name), "bgpd.vty"))
	if err != nil {
		return nil, fmt.Errorf("%s: bgpd: %w", d.Name, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := c.Write(append([]byte(command), 0)); err != nil {
		return nil, fmt.Errorf("%s: bgpd: %s: %w", d.Name, command, err)
	}
	var out []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("%s: bgpd: %s: %w", d.Name, command, err)
		}
		out = append(out, buf[:n]...)
		if text, ok := bytes.CutSuffix(out[:max(0, len(out)-1)], []byte{0, 0, 0}); ok {
			if result := out[len(out)-1]; result != 0 {
				return nil, fmt.Errorf("%s: bgpd: %s: result %d: %s", d.Name, command, result, text)
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
	out, err := l.bgpd(ctx, d, fmt.Sprintf("show bgp %s unicast json", family))
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
		e := t.At(prefix)
		for _, p := range paths {
			if p.PeerID == "(unspec)" {
				e.Own = true
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
			e.Paths = append(e.Paths, live.Path{From: from, NextHop: nextHop, ASPath: as, Unusable: !p.Valid})
		}
	}
	return nil
}

// peerNamed is the device that a daemon calls by an address or by the interface towards it.
func (l *Lab) peerNamed(d *fabric.Device, word string) string {
	if a, err := netip.ParseAddr(word); err == nil && a.Zone() == "" {
		return l.names.Device(a, word)
	} else if err == nil {
		word = a.Zone()
	}
	name, _ := l.peerAt(d, word, netip.Addr{})
	return name
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
