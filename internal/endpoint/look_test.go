// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// TestSettingsAreThoseOfTheFiles changes each setting and compares what the
// kernel says in a message with what the file says.
func TestSettingsAreThoseOfTheFiles(t *testing.T) {
	l := labtest.New(t)
	s := newServer(t, l)
	if err := lab.Veth(lab.End{NS: s.Namespace, Name: "cali1"}, lab.End{NS: labtest.Namespace(t, l, "w"), Name: "eth0"}); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for i := range hostSettings {
		set := &hostSettings[i]
		path := strings.Replace(set.path, "/IF/", "/cali1/", 1)
		for _, value := range []string{"1", "0", "1"} {
			if err := s.SetSysctl("net/"+path, value); err != nil {
				t.Fatal(err)
			}
			s.do(func() error {
				k, err := s.links.wire.link("cali1")
				if err != nil {
					return err
				}
				all, err := s.links.wire.links()
				if err != nil {
					return err
				}
				for _, k := range []link{k, all["cali1"]} {
					if got, ok := k.setting(set); ok && got != value {
						return fmt.Errorf("%s is %q in the message, and %q in the file", path, got, value)
					} else if ok {
						compared++
					}
				}
				return nil
			})
		}
	}
	if want := 2 * 3 * (len(hostSettings) - 1); compared != want { // all but the one of neighbours
		t.Errorf("%d values were in messages, want %d", compared, want)
	}
}

// TestSurvey syncs many interfaces at once: what is written is what is written
// one by one, also on an interface that came after the survey.
func TestSurvey(t *testing.T) {
	s := newServer(t, labtest.New(t))
	h, err := s.Handle()
	if err != nil {
		t.Fatal(err)
	}
	add := func(i int) string {
		at := netlink.NewLinkAttrs()
		at.Name = fmt.Sprint("cali", i)
		if err := h.LinkAdd(&netlink.Veth{LinkAttrs: at, PeerName: fmt.Sprint("peer", i)}); err != nil {
			t.Fatal(err)
		}
		s.links.Set(at.Name, Config{Addrs: addrA, MAC: [6]byte{2, 0, 0, 0, 0, byte(i)}, HasMAC: true})
		return at.Name
	}
	for i := range 10 {
		add(i)
	}
	one := s.sync("cali0")
	s.do(func() error {
		end := s.links.Survey()
		late := add(10)
		if st := s.links.Sync(late); st.State != Absent {
			return fmt.Errorf("an interface that came later: %+v", st)
		}
		for i := 1; i < 10; i++ {
			if st := s.links.Sync(fmt.Sprint("cali", i)); st != (Status{State: one.State, Index: st.Index, Writes: one.Writes}) || st.Index == 0 {
				return fmt.Errorf("by survey %+v, one by one %+v", st, one)
			}
		}
		end()
		if st := s.links.Sync(late); st.Writes != one.Writes {
			return fmt.Errorf("after the survey %+v, want %+v", st, one)
		}
		if n := s.links.Resync(); n != 0 {
			return fmt.Errorf("%d writes although nothing differs", n)
		}
		return nil
	})
}

func FuzzParseLink(f *testing.F) {
	labtest.Require(f)
	w, err := openWire()
	if err != nil {
		f.Fatal(err)
	}
	defer w.close()
	msgs, err := w.dump(unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC), withoutStatistics())
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range msgs {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, ok := parseLink(b)
		if ok != (k.name != "") {
			t.Errorf("%v for the name %q", ok, k.name)
		}
		for i := range hostSettings {
			k.setting(&hostSettings[i])
		}
	})
}
