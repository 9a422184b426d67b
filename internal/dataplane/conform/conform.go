// SPDX-License-Identifier: Apache-2.0

// Package conform says what a data plane has to do, as packets see it: a table of
// cases, each of which puts models in force through the two interfaces of package
// dataplane, as the agent does, sends packets, and expects what becomes of them. It
// knows no operating system. [Run] runs it on one, by a driver that makes a [Machine];
// those for Linux and for memory are the tests of this package.
//
// A scene (scene.go) is what a case plays on; cases.go has those of filtering,
// ways.go those of forwarding and of both together.
package conform

import (
	"net/netip"
	"testing"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

// Node is the name of the machine.
const Node = "here"

// A Machine is a server whose interfaces end at the driver. It is a router, has the
// Links, and by another daemon a default route to the neighbour on the first of
// Uplinks. Who is behind an interface need not be asked for by ARP or neighbour
// discovery: the machine knows for all of Behind, as package endpoint and others see to.
type Machine interface {
	// Open begins as an agent does that starts: what is in force stays until it is
	// told otherwise. A data plane that works from objects has them in world, which
	// changes before each Apply. The NetNS of filter and the Inside of routes are the driver's.
	Open(filter acl.Options, routes route.Options, world *policy.World) (dataplane.Filtering, dataplane.Forwarding, error)
	// Send has frames come in one after the other, and tells what became of each.
	Send(frames []dataplane.Frame) ([]dataplane.Outcome, error)
	// Place has the machine have these addresses on its loopback, and none else: those of
	// its own processes.
	Place(addrs []netip.Addr) error
	// Reset forgets flows.
	Reset() error
}

// Link is an interface of the machine. Who sends there has the MAC address.
type Link struct {
	Name  string
	Addrs []netip.Prefix // the machine's
	MAC   [6]byte
}

// Links are those of workloads a to d, of which d has no endpoint unless a case gives it one, and of two uplinks.
var Links = []Link{
	{Name: "calia", MAC: mac(1)}, {Name: "calib", MAC: mac(2)}, {Name: "calic", MAC: mac(3)}, {Name: "calid", MAC: mac(4)},
	{Name: "up0", MAC: mac(16), Addrs: []netip.Prefix{netip.MustParsePrefix("172.16.0.1/24"), netip.MustParsePrefix("fd16::1/64")}},
	{Name: "up1", MAC: mac(17), Addrs: []netip.Prefix{netip.MustParsePrefix("172.17.0.1/24"), netip.MustParsePrefix("fd17::1/64")}},
}

// Uplinks are the interfaces that are no workload's.
var Uplinks = Links[4:]

// Behind is who is reached on the link itself by each interface, IPv4 and IPv6.
var Behind = map[string][2]netip.Addr{
	"calia": {netip.MustParseAddr("10.65.0.1"), netip.MustParseAddr("fd65::1")},
	"calib": {netip.MustParseAddr("10.65.0.2"), netip.MustParseAddr("fd65::2")},
	"calic": {netip.MustParseAddr("10.65.0.3"), netip.MustParseAddr("fd65::3")},
	"calid": {netip.MustParseAddr("10.65.0.4"), netip.MustParseAddr("fd65::4")},
	"up0":   {netip.MustParseAddr("172.16.0.2"), netip.MustParseAddr("fd16::2")},
	"up1":   {netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("fd17::2")},
}

// process is the addresses of a process of the machine itself.
var process = [2]netip.Addr{netip.MustParseAddr("10.65.0.21"), netip.MustParseAddr("fd65::21")}

func mac(last byte) [6]byte { return [6]byte{2, 0, 0, 0, 0, last} }

// Run runs all cases on a machine, IPv4 and IPv6 alike.
func Run(t *testing.T, m Machine) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			for _, err := range c.Check(m) {
				t.Error(err)
			}
		})
	}
}

// A Case is one thing that a data plane has to do.
type Case struct {
	Name string
	play func(s *scene)
}

// Cases are all of them.
func Cases() []Case { return append(filterCases(), wayCases()...) }

// Check plays a case on a machine on which nothing is in force, and leaves it so. It
// returns what was otherwise than expected.
func (c Case) Check(m Machine) []error {
	s := newScene(m)
	defer s.close()
	if s.open() {
		c.play(s)
	}
	s.clear()
	return s.errs
}
