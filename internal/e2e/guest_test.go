// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

const (
	guestInterface = "calivm0"
	guestWorld     = pools + allowAll
	guestEndpoint  = `"node":"n1","orchestrator":"vm","workload":"guest","endpoint":"eth0","interfaceName":"` + guestInterface + `","mac":"fa:16:3e:00:00:09",` +
		`"ipNetworks":["10.65.200.9/32","fd65::200:9/128"],"ipv4Gateway":"10.65.255.254"`
)

// TestGuest: a machine with a subnet on its link, whose endpoint has an
// ipv4Gateway, finds everybody there by ARP. Its server has no default route,
// and goes on answering when the agent is killed.
func TestGuest(t *testing.T) {
	t.Parallel()
	d := newDatastore(t)
	c := newClusterOn(t, d.url, servers(1))
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, c, guestWorld)
	n := c.Nodes[0]
	a, b := attach(t, n, "a"), attach(t, n, "b")
	mac := net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 9}
	d.object("WorkloadEndpoint", "default", "n1-vm-guest-eth0", "", guestEndpoint)
	vm, err := c.Lab.Namespace("vm")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		vm.SetSysctl("net/ipv6/conf/default/accept_dad", "0"),
		lab.Veth(lab.End{NS: n.Namespace, Name: guestInterface}, lab.End{NS: vm, Name: "eth0", MAC: mac}),
		vm.AddAddr("eth0", netip.MustParsePrefix("10.65.200.9/16")),
		vm.AddAddr("eth0", netip.MustParsePrefix("fd65::200:9/128")),
		vm.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.65.255.254"), "eth0"),
		vm.AddRoute(netip.MustParsePrefix("::/0"), gateway6, "eth0"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	reaches(t, vm, a.V4)
	reaches(t, vm, a.V6)
	reaches(t, a.Namespace, netip.MustParseAddr("10.65.200.9"))
	n.Kill()
	reaches(t, vm, b.V4) // it has not asked for it before
	reaches(t, vm, b.V6)
}

// TestGuest_Machine is the same with a virtual machine on a tap, and with and
// without a default route of its server. It runs by make test-guest, which
// provides the kernel.
func TestGuest_Machine(t *testing.T) {
	dir := os.Getenv("MUSLIN_GUEST")
	if dir == "" {
		t.Skip("make test-guest runs it")
	}
	d := newDatastore(t)
	c := newClusterOn(t, d.url, servers(1))
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, c, guestWorld)
	n := c.Nodes[0]
	var w []*cluster.Workload
	for _, name := range []string{"a", "b", "c"} {
		w = append(w, attach(t, n, name))
	}
	d.object("WorkloadEndpoint", "default", "n1-vm-guest-eth0", "", guestEndpoint)
	err := n.Do(func() error {
		la := netlink.NewLinkAttrs()
		la.Name = guestInterface
		tap := &netlink.Tuntap{LinkAttrs: la, Mode: netlink.TUNTAP_MODE_TAP}
		return errors.Join(netlink.LinkAdd(tap), netlink.LinkSetUp(tap))
	})
	if err != nil {
		t.Fatal(err)
	}
	serial := filepath.Join(t.TempDir(), "serial")
	_, err = n.Namespace.Start(exec.Command("qemu-system-x86_64", "-accel", "tcg,thread=single", "-M", "pc", "-cpu", "qemu64", "-m", "128",
		"-nodefaults", "-display", "none", "-no-reboot", "-serial", "file:"+serial, "-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd"),
		"-append", "console=ttyS0 quiet addr=10.65.200.9/16 gateway=10.65.255.254",
		"-netdev", "tap,id=n0,ifname="+guestInterface+",script=no,downscript=no", "-device", "virtio-net-pci,netdev=n0,mac=fa:16:3e:00:00:09"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			text, _ := os.ReadFile(serial)
			t.Logf("the machine says:\n%s", text)
		}
	}()
	eventually(t, 2*time.Minute, func() error {
		text, err := os.ReadFile(serial)
		if err == nil && !strings.Contains(string(text), "guest is up") {
			err = errors.New("the machine is not up")
		}
		return err
	})
	// An answer to each takes one of the machine's questions.
	guest := netip.MustParseAddr("10.65.200.9")
	reaches(t, w[0].Namespace, guest)
	if err := n.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.0.0.254"), "eth0"); err != nil {
		t.Fatal(err)
	}
	reaches(t, w[1].Namespace, guest)
	n.Kill()
	reaches(t, w[2].Namespace, guest)
	if err := n.DelRoute(netip.MustParsePrefix("0.0.0.0/0"), "eth0"); err != nil {
		t.Fatal(err)
	}
	reaches(t, w[2].Namespace, guest)
}
