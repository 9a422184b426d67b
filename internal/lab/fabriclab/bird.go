// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/emit"
	"github.com/muslin-net/muslin/internal/fabric/live"
)

// Where Debian puts BIRD.
const (
	birdProgram = "/usr/sbin/bird"
	birdClient  = "/usr/sbin/birdc"
)

func (l *Lab) birdSocket(device string) string { return filepath.Join(l.dir(device), "bird.ctl") }

// startBIRD starts BIRD with its file. One that comes back after a crash takes the kernel's routes over
// and has its peers keep theirs (RFC 4724).
func (l *Lab) startBIRD(ctx context.Context, d *fabric.Device, text string) error {
	file := filepath.Join(l.dir(d.Name), "bird.conf")
	if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
		return err
	}
	if err := l.birdDaemon(d.Name); err != nil {
		return err
	}
	if err := appears(ctx, l.birdSocket(d.Name)); err != nil {
		return fmt.Errorf("%s: bird does not start: %w: see %s", d.Name, err, filepath.Join(l.dir(d.Name), "bird.log"))
	}
	return nil
}

func (l *Lab) birdDaemon(device string, more ...string) error {
	dir := l.dir(device)
	args := append([]string{"-f", "-c", filepath.Join(dir, "bird.conf"), "-s", l.birdSocket(device), "-P", filepath.Join(dir, "bird.pid")}, more...)
	return l.detach(device, "bird.log", birdProgram, args...)
}

// birdPaths reads BIRD's table.
func (l *Lab) birdPaths(ctx context.Context, d *fabric.Device, family fabric.Family, t live.Table) error {
	table := map[fabric.Family]string{fabric.IPv4: "master4", fabric.IPv6: "master6"}[family]
	out, err := exec.CommandContext(ctx, birdClient, "-s", l.birdSocket(d.Name), "show", "route", "table", table, "all").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: birdc: show route: %w: %s", d.Name, err, out)
	}
	return l.readBIRD(d, out, t)
}

// birdRoute is the first line of a route: the prefix, unless it is that of the line before, and the protocol.
var birdRoute = regexp.MustCompile(`^(\S*)\s+(?:unicast|blackhole|unreachable|prohibit) \[(\S+) `)

func (l *Lab) readBIRD(d *fabric.Device, text []byte, t live.Table) error {
	from := l.birdPeers(d)
	var prefix netip.Prefix
	var path *live.Path
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if m := birdRoute.FindStringSubmatch(line); m != nil {
			if m[1] != "" {
				p, err := netip.ParsePrefix(m[1])
				if err != nil {
					return fmt.Errorf("%s: %q: %w", d.Name, line, err)
				}
				prefix = p
			}
			path = nil
			switch peer := from(m[2]); {
			case peer != "":
				e := t.At(prefix)
				e.Paths = append(e.Paths, live.Path{From: peer, NextHop: peer})
				path = &e.Paths[len(e.Paths)-1]
			case announces(d, m[2], prefix):
				t.At(prefix).Own = true
			}
			continue
		}
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case path == nil:
		case key == "BGP.as_path":
			as, err := asPath(value)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", d.Name, prefix, err)
			}
			path.ASPath = as
		case key == "BGP.next_hop": // of IPv6 a link-local one may follow
			word, _, _ := strings.Cut(value, " ")
			if a, err := netip.ParseAddr(word); err == nil && !a.IsLinkLocalUnicast() {
				path.NextHop = l.names.Device(a, path.From)
			}
		}
	}
	return nil
}

// birdPeers finds the peer of a protocol.
func (l *Lab) birdPeers(d *fabric.Device) func(protocol string) string {
	peers, ports := map[string]string{}, map[string]string{}
	for _, p := range l.x.Neighbours(d) {
		for _, a := range p.Address {
			peers[emit.BIRDProtocol(p, a)] = p.Name
		}
		if len(p.Address) == 0 {
			ports[emit.BIRDDynamic(p.Port)] = p.Name
		}
	}
	return func(protocol string) string {
		if name, ok := peers[protocol]; ok {
			return name
		}
		return ports[strings.TrimRight(protocol, "0123456789")]
	}
}

// announces tells whether BIRD has a route to tell others of that no peer sent: of a port or the loopback, if
// the design says so, or one that the file makes. Its default routes are not its own: it uses none of them.
func announces(d *fabric.Device, protocol string, p netip.Prefix) bool {
	if strings.HasPrefix(protocol, "blocks") || strings.HasPrefix(protocol, "kernel") { // of the kernel it learns endpoints
		return true
	}
	return strings.HasPrefix(protocol, "direct") && slices.ContainsFunc(d.Originate, func(o fabric.Origin) bool {
		return (o.Kind == fabric.OriginLoopback || o.Kind == fabric.OriginSubnet || o.Kind == fabric.OriginEndpoints && d.Role == fabric.RoleMachine) && slices.Contains(slices.Collect(o.Each()), p)
	})
}
