// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
)

// The gateway addresses of every workload. They are on every interface and
// nowhere else, and are never announced.
var (
	gateway4 = netip.MustParsePrefix("169.254.1.1/32")
	gateway6 = netip.MustParsePrefix("fe80::ecee:eeff:feee:eeee/64")
)

// Gateway4 returns the IPv4 gateway of every workload, 169.254.1.1.
func Gateway4() netip.Addr { return gateway4.Addr() }

// Gateway6 returns the IPv6 gateway of every workload.
func Gateway6() netip.Addr { return gateway6.Addr() }

// Config is what the interface of one endpoint should have beyond what all
// have alike.
type Config struct {
	// Addrs are the workload's own addresses, of both families.
	Addrs []netip.Addr
	// MAC is the workload's, if it is known: each address then has a fixed
	// neighbour entry, so that nothing the workload says in ARP or neighbour
	// discovery can move it, and the first packet need not wait for an answer.
	MAC    [6]byte
	HasMAC bool
	// Host are addresses of this host that only this workload has need of,
	// beside the gateway's.
	Host []netip.Addr
}

func (c Config) equal(o Config) bool {
	return c.HasMAC == o.HasMAC && c.MAC == o.MAC && slices.Equal(c.Addrs, o.Addrs) && slices.Equal(c.Host, o.Host)
}

// State is how far an endpoint's interface has come.
type State uint8

// The states of an interface.
const (
	// Absent: there is no interface of this name yet.
	Absent State = iota
	// Down: the interface is configured but not up, or its other end is not.
	Down
	// Ready: configured and up.
	Ready
	// Failed: the interface is refused, or something could not be written.
	Failed
)

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case Absent:
		return "absent"
	case Down:
		return "down"
	case Ready:
		return "ready"
	}
	return "failed"
}

// Status is the outcome of a Sync.
type Status struct {
	State State
	Index int   // of the interface; 0 when Absent or refused
	Err   error // set when Failed
	// Enslaved: it is a port of a bridge or the like, and refused for that.
	Enslaved bool
	// Writes is how many things differed from what they should be and were
	// written: 0 when all was well.
	Writes int
}

// Options are for Open.
type Options struct {
	Log *slog.Logger
	// Prefixes are what names of endpoints' interfaces begin with.
	Prefixes []string
	// Reserved are names that no endpoint may have although the prefix fits:
	// the host's uplinks.
	Reserved []string
}

// HostMAC returns the MAC of the host side of every pair that Attach makes. It
// is alike everywhere so that a workload that moves keeps a valid neighbour
// entry; and it makes the kernel's own link-local address the IPv6 gateway.
func HostMAC() net.HardwareAddr { return net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee} }

// Attachment is an interface pair between this host and a workload's network
// namespace.
type Attachment struct {
	// NetNS is the path of the namespace: /run/netns/NAME, /proc/PID/ns/net.
	NetNS string
	// Host is the name of the host side; see HostName.
	Host string
	// Alias says on the host side, to people, whose it is; empty says nothing.
	Alias string
	// Inner is the name inside; empty means eth0.
	Inner string
	// Addrs are the workload's addresses, at least one, any number of either
	// family. Each is added as a host address: /32 or /128.
	Addrs []netip.Addr
	// MTU of both sides; 0 leaves the kernel's choice.
	MTU int
	// MAC of the inner side; empty lets the kernel choose.
	MAC net.HardwareAddr
}

// Attached is what came of an Attachment.
type Attached struct {
	HostIndex int              // interface index of the host side
	MAC       net.HardwareAddr // of the inner side
}

func (a *Attachment) check() error {
	if a.Inner == "" {
		a.Inner = "eth0"
	}
	if err := ValidName(a.Host); err != nil {
		return fmt.Errorf("host side: %w", err)
	}
	if err := ValidName(a.Inner); err != nil {
		return fmt.Errorf("workload side: %w", err)
	}
	if a.Inner == "lo" || a.Host == "lo" {
		return errors.New("interface name lo: it is taken by loopback")
	}
	if len(a.Addrs) == 0 {
		return errors.New("addresses: want at least one")
	}
	for _, x := range a.Addrs {
		if !x.IsValid() || x.Is4In6() || x.Zone() != "" || x.IsUnspecified() || x.IsLoopback() || x.IsMulticast() || x.IsLinkLocalUnicast() {
			return fmt.Errorf("address %s: want a unicast address that can be routed", x)
		}
	}
	if a.MTU != 0 && (a.MTU < 68 || a.MTU > 65535) {
		return fmt.Errorf("MTU %d: want 68–65535", a.MTU)
	}
	if a.MTU != 0 && a.MTU < 1280 && a.has(netip.Addr.Is6) {
		return fmt.Errorf("MTU %d: IPv6 needs at least 1280 (RFC 8200, section 5)", a.MTU)
	}
	if len(a.MAC) != 0 && (len(a.MAC) != 6 || a.MAC[0]&1 != 0) {
		return fmt.Errorf("MAC %s: want a unicast MAC of 48 bits", a.MAC)
	}
	return nil
}

func (a *Attachment) has(family func(netip.Addr) bool) bool {
	for _, x := range a.Addrs {
		if family(x) {
			return true
		}
	}
	return false
}

// HostLink is an interface of this host, as far as somebody at its other end is
// concerned.
type HostLink struct {
	Name      string
	Index     int
	MAC       [6]byte    // zero if it has none
	LinkLocal netip.Addr // its own, without zone; of several the lowest
	Down      string     // why nobody can be reached through it; empty: it is up
	Missing   bool       // there is none of that name
}

// Workload is an interface of this host that is a workload's by its name.
type Workload struct{ Name, Alias string }

// ErrNamespace is the class of errors for a path that is not the network
// namespace of a workload.
var ErrNamespace = errors.New("not a network namespace for a workload")
