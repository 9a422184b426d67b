// SPDX-License-Identifier: Apache-2.0

//go:build linux

package endpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Of linux/rtnetlink.h and linux/if.h, where package unix has nothing.
const (
	rtextFilterSkipStats = 1 << 3
	operUnknown          = 0 // IF_OPER_UNKNOWN
	operUp               = 6 // IF_OPER_UP
)

// link is what the kernel says of an interface in an RTM_NEWLINK message.
type link struct {
	index  int
	name   string
	flags  uint32 // IFF_*
	master int
	state  uint8 // IF_OPER_*
	// The settings of the interface that are sysctls as well, in the order of
	// linux/ip.h and linux/ipv6.h. To read them here is one message, where
	// reading files is three system calls for each.
	conf4, conf6 []byte
}

// up tells whether packets can pass: administratively up, and not known to be
// without a carrier.
func (k *link) up() bool {
	return k.flags&unix.IFF_UP != 0 && (k.state == operUp || k.state == operUnknown)
}

// setting returns the value of a setting as its file would show it, and false
// if only the file can tell. Of a nil link nothing is known.
func (k *link) setting(s *setting) (value string, ok bool) {
	if k == nil {
		return "", false
	}
	list := k.conf4
	if s.v6() {
		list = k.conf6
	}
	at := 4 * (s.conf - 1)
	if s.conf == 0 || at+4 > len(list) {
		return "", false
	}
	return strconv.Itoa(int(int32(binary.NativeEndian.Uint32(list[at:])))), true
}

// asSet tells whether all settings that the message has are as they should be.
func (k *link) asSet() bool {
	for i := range hostSettings {
		s := &hostSettings[i]
		if value, known := k.setting(s); known && value != s.value {
			return false
		}
	}
	return true
}

// parseLink reads an ifinfomsg with its attributes.
func parseLink(b []byte) (k link, ok bool) {
	if len(b) < unix.SizeofIfInfomsg {
		return k, false
	}
	k.index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	k.flags = binary.NativeEndian.Uint32(b[8:])
	for typ, v := range attributes(b[unix.SizeofIfInfomsg:]) {
		switch {
		case typ == unix.IFLA_IFNAME:
			k.name = unix.ByteSliceToString(v)
		case typ == unix.IFLA_MASTER && len(v) == 4:
			k.master = int(binary.NativeEndian.Uint32(v))
		case typ == unix.IFLA_OPERSTATE && len(v) == 1:
			k.state = v[0]
		case typ == unix.IFLA_AF_SPEC:
			for family, v := range attributes(v) {
				for typ, v := range attributes(v) {
					switch {
					case family == unix.AF_INET && typ == unix.IFLA_INET_CONF:
						k.conf4 = v
					case family == unix.AF_INET6 && typ == unix.IFLA_INET6_CONF:
						k.conf6 = v
					}
				}
			}
		}
	}
	return k, k.name != ""
}

// withoutStatistics leaves the counters, half of the message, out.
func withoutStatistics() *nl.RtAttr {
	return nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(rtextFilterSkipStats))
}

// link reads one interface; an error that is gone if there is none.
func (w *wire) link(name string) (link, error) {
	r := w.request(unix.RTM_GETLINK, 0)
	r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	r.AddData(withoutStatistics())
	r.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	msgs, err := r.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return link{}, fmt.Errorf("read interface: %w", err)
	}
	for _, b := range msgs {
		if k, ok := parseLink(b); ok && k.name == name {
			return k, nil
		}
	}
	return link{}, fmt.Errorf("read interface: %w", unix.ENODEV)
}

// links reads all interfaces.
func (w *wire) links() (map[string]link, error) {
	msgs, err := w.dump(unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC), withoutStatistics())
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	all := make(map[string]link, len(msgs))
	for _, b := range msgs {
		if k, ok := parseLink(b); ok {
			all[k.name] = k
		}
	}
	return all, nil
}

// survey is what all interfaces had at one time.
type survey struct {
	links map[string]link
	addrs map[int][]address
	neigh map[int][]neighbour
}

// Survey reads all interfaces in a few dumps, for the Syncs until end is called
// to compare with: where there are many that is a tenth of the messages, and the
// kernel looks through its neighbours once instead of once for each interface.
// What changes meanwhile is notified, as what changes after a look is.
func (l *Links) Survey() (end func()) {
	end = func() { l.survey = nil }
	s := &survey{addrs: map[int][]address{}, neigh: map[int][]neighbour{}}
	var err1, err2, err3 error
	s.links, err1 = l.wire.links()
	addrs, err2 := l.wire.addrs(0)
	neigh, err3 := l.wire.neighbours(0)
	if errors.Join(err1, err2, err3) != nil {
		return end // each Sync looks for itself, and says what is wrong
	}
	for _, a := range addrs {
		s.addrs[a.index] = append(s.addrs[a.index], a)
	}
	for _, n := range neigh {
		s.neigh[n.index] = append(s.neigh[n.index], n)
	}
	l.survey = s
	return end
}

// look returns an interface and what it has.
func (l *Links) look(name string) (k link, addrs []address, neigh []neighbour, err error) {
	if s := l.survey; s != nil {
		k, ok := s.links[name]
		if !ok {
			return k, nil, nil, unix.ENODEV
		}
		return k, s.addrs[k.index], s.neigh[k.index], nil
	}
	if k, err = l.wire.link(name); err != nil {
		return k, nil, nil, err
	}
	addrs, err1 := l.wire.addrs(k.index)
	neigh, err2 := l.wire.neighbours(k.index)
	return k, addrs, neigh, errors.Join(err1, err2)
}
