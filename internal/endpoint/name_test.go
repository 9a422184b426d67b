// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHostName(t *testing.T) {
	a := HostName("cali", "default", "web", "eth0")
	if len(a) != 15 || a != HostName("cali", "default", "web", "eth0") || a != "calide4e752220c" {
		t.Error(a, "is another name than before: interfaces that are there would not be found again")
	}
	seen := map[string][3]string{}
	for _, e := range [][3]string{{"default", "web", "eth0"}, {"default", "web2", "eth0"}, {"default", "web", "eth0.1"}, {"default", "web.eth0", "1"}, {"default.web", "eth0", "1"}, {"default", "web.eth0.1", "e"}} {
		n := HostName("cali", e[0], e[1], e[2])
		if other, is := seen[n]; is {
			t.Errorf("%v and %v have one name, %s", e, other, n)
		}
		seen[n] = e
	}
	if err := Check(a, []string{"cali"}, nil); err != nil {
		t.Error(err)
	}
	if n := HostName("averyveryverylongprefix", "a", "b", "c"); len(n) != 15 {
		t.Error(n)
	}
}

func TestD03_InterfaceNamesThatAreRefused(t *testing.T) {
	prefixes, reserved := []string{"cali", "tap", "l", "a", ""}, []string{"cali-uplink"}
	for _, name := range []string{
		"", ".", "..", "../x", "cali/../eth0", "eth0; reboot", "cali56789012345678", "cali%d", "cali*", "cali 1", "cali\x001", "cali\n",
		"lo", "all", "default", "eth0", "cali", "tap", "xcali1", "cali-uplink",
	} {
		if err := Check(name, prefixes, reserved); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"cali1", "tap0.5_x-y", "cali01234567890"} {
		if err := Check(name, prefixes, reserved); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestAttachmentCheck(t *testing.T) {
	good := netip.MustParseAddr("10.0.0.1")
	for name, a := range map[string]Attachment{
		"no address":    {Host: "cali1"},
		"bad host":      {Host: "../x", Addrs: []netip.Addr{good}},
		"bad inner":     {Host: "cali1", Inner: "eth 0", Addrs: []netip.Addr{good}},
		"lo":            {Host: "cali1", Inner: "lo", Addrs: []netip.Addr{good}},
		"MTU":           {Host: "cali1", MTU: 67, Addrs: []netip.Addr{good}},
		"MTU for IPv6":  {Host: "cali1", MTU: 1279, Addrs: []netip.Addr{netip.MustParseAddr("fd00::1")}},
		"short MAC":     {Host: "cali1", MAC: []byte{2, 0}, Addrs: []netip.Addr{good}},
		"multicast MAC": {Host: "cali1", MAC: []byte{1, 0, 0, 0, 0, 1}, Addrs: []netip.Addr{good}},
		"multicast":     {Host: "cali1", Addrs: []netip.Addr{netip.MustParseAddr("224.0.0.1")}},
		"link-local":    {Host: "cali1", Addrs: []netip.Addr{netip.MustParseAddr("fe80::1")}},
		"loopback":      {Host: "cali1", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		"mapped":        {Host: "cali1", Addrs: []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")}},
		"invalid":       {Host: "cali1", Addrs: []netip.Addr{{}}},
	} {
		if err := a.check(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	a := Attachment{Host: "cali1", Addrs: []netip.Addr{good, netip.MustParseAddr("fd00::1")}, MTU: 1400}
	if err := a.check(); err != nil || a.Inner != "eth0" {
		t.Error(a, err)
	}
}

// FuzzAttributes feeds messages that end anywhere to the parsers.
func FuzzAttributes(f *testing.F) {
	f.Add([]byte{2, 32, 0x80, 253, 1, 0, 0, 0, 8, 0, 2, 0, 169, 254, 1, 1, 5, 0, 11, 0, 177, 0, 0, 0})
	f.Add([]byte{2, 0, 0, 0, 1, 0, 0, 0, 0x80, 0, 0, 0, 8, 0, 1, 0, 10, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		parseAddr(b)
		parseNeighbour(b)
		n := 0
		for range attributes(b) {
			if n++; n > len(b)/unix.SizeofRtAttr {
				t.Fatal("more attributes than fit")
			}
		}
	})
}
