// SPDX-License-Identifier: Apache-2.0

package bmp

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	oracle "github.com/osrg/gobgp/v4/pkg/packet/bmp"
)

// The peers of these stories: one over IPv4, one over IPv6, and the table.
var (
	when  = time.Unix(1_700_000_000, 123_456_789)
	peer4 = peer{addr: netip.MustParseAddr("10.0.0.2"), asn: 64999, id: netip.MustParseAddr("192.0.2.2"), time: when}
	peer6 = peer{addr: netip.MustParseAddr("fd00::2"), asn: 4_200_000_000, id: netip.MustParseAddr("192.0.2.3"), time: when}
	table = peer{typ: peerLocRIB, asn: 64512, id: netip.MustParseAddr("192.0.2.1"), time: when}
)

// octets is a message written down with the words of the RFC beside it.
func octets(t *testing.T, story string) []byte {
	t.Helper()
	var text strings.Builder
	for line := range strings.SplitSeq(story, "\n") {
		line, _, _ = strings.Cut(line, "#")
		text.WriteString(strings.ReplaceAll(strings.TrimSpace(line), " ", ""))
	}
	b, err := hex.DecodeString(text.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func equal(t *testing.T, got []byte, story string) {
	t.Helper()
	if want := octets(t, story); string(got) != string(want) {
		t.Errorf("\n got %x\nwant %x", got, want)
	}
}

// read has the message read by GoBGP.
func read(t *testing.T, b []byte) *oracle.BMPMessage {
	t.Helper()
	m, err := oracle.ParseBMPMessage(b)
	if err != nil {
		t.Fatalf("GoBGP cannot read %x: %v", b, err)
	}
	if int(m.Header.Length) != len(b) || m.Header.Version != 3 {
		t.Errorf("header %+v of a message of %d octets", m.Header, len(b))
	}
	return m
}

func samePeer(t *testing.T, m *oracle.BMPMessage, p peer) {
	t.Helper()
	h := m.PeerHeader
	addr := p.addr
	if p.typ == peerLocRIB {
		addr = netip.Addr{} // GoBGP reads none at all
	}
	if h.PeerType != uint8(p.typ) || h.PeerAddress != addr || h.PeerAS != p.asn || h.PeerBGPID != p.id || h.PeerDistinguisher != 0 {
		t.Errorf("peer %+v, want %+v", h, p)
	}
	if d := h.Timestamp - float64(p.time.UnixMicro())/1e6; d > 1e-6 || d < -1e-6 {
		t.Errorf("time %f, want %v", h.Timestamp, p.time)
	}
}

func TestRFC7854_4_3_Initiation(t *testing.T) {
	b := appendInitiation(nil, "host1", "Muslin v1")
	equal(t, b, `
		03            # version (section 4.1)
		0000001c      # length, this header included
		04            # type: Initiation
		0001 0009 4d75736c696e207631  # sysDescr (section 4.4)
		0002 0005 686f737431          # sysName`)
	m := read(t, b).Body.(*oracle.BMPInitiation)
	if len(m.Info) != 2 || m.Info[0].(*oracle.BMPInfoTLVString).Value != "Muslin v1" || m.Info[1].(*oracle.BMPInfoTLVString).Value != "host1" {
		t.Errorf("GoBGP reads %+v", m.Info)
	}
}

func TestRFC7854_4_5_Termination(t *testing.T) {
	b := appendTermination(nil, terminationAdmin, "bye")
	equal(t, b, `
		03 00000013 05   # Termination
		0000 0003 627965 # a string
		0001 0002 0000   # reason 0: the session is closed administratively`)
	m := read(t, b).Body.(*oracle.BMPTermination)
	if len(m.Info) != 2 || m.Info[1].(*oracle.BMPTermTLV16).Value != terminationAdmin {
		t.Errorf("GoBGP reads %+v", m.Info)
	}
}

// The per-peer header in its three forms.
func TestRFC7854_4_2_PerPeerHeader(t *testing.T) {
	equal(t, appendPeer(nil, peer4, 0), `
		00                # a global instance peer
		00                # IPv4, before policy, four-octet AS_PATH
		0000000000000000  # no distinguisher
		0000000000000000000000000a000002 # the address in the last four octets
		0000fde7          # AS 64999
		c0000202          # BGP identifier
		6553f100 0001e240 # seconds, microseconds`)
	equal(t, appendPeer(nil, peer6, flagPostPolicy), `
		00
		c0                # V: IPv6, L: after policy
		0000000000000000
		fd000000000000000000000000000002
		fa56ea00          # AS 4200000000
		c0000203
		6553f100 0001e240`)
	// RFC 9069 section 4.1: no address, no V flag; bit 0 would be F, filtered.
	equal(t, appendPeer(nil, table, 0), `
		03 00
		0000000000000000
		00000000000000000000000000000000
		0000fc00 c0000201
		6553f100 0001e240`)
}

// message is a whole BGP message around a body.
func message(typ byte, body []byte) []byte {
	b := make([]byte, 16, 19+len(body))
	for i := range b {
		b[i] = 0xff
	}
	b = binary.BigEndian.AppendUint16(b, uint16(19+len(body)))
	b = append(b, typ)
	return append(b, body...)
}

// openOf is an OPEN with a four-octet AS number.
func openOf(t *testing.T, asn uint32, id netip.Addr) []byte {
	t.Helper()
	m, err := wire.NewBGPOpenMessage(23456, 9, id, []wire.OptionParameterInterface{
		wire.NewOptionParameterCapability([]wire.ParameterCapabilityInterface{wire.NewCapFourOctetASNumber(asn)})})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRFC7854_4_10_PeerUp(t *testing.T) {
	for _, c := range []struct {
		p     peer
		local netip.AddrPort
	}{{peer4, netip.MustParseAddrPort("10.0.0.1:179")}, {peer6, netip.MustParseAddrPort("[fd00::1]:40000")}} {
		sent, received := openOf(t, 64512, table.id), openOf(t, c.p.asn, c.p.id)
		b := appendPeerUp(nil, c.p, peerUp{local: c.local, remote: netip.AddrPortFrom(c.p.addr, 1790), sent: sent, received: received})
		m := read(t, b)
		samePeer(t, m, c.p)
		u := m.Body.(*oracle.BMPPeerUpNotification)
		if u.LocalAddress != c.local.Addr() || u.LocalPort != c.local.Port() || u.RemotePort != 1790 {
			t.Errorf("GoBGP reads %s port %d, remote port %d", u.LocalAddress, u.LocalPort, u.RemotePort)
		}
		for i, got := range []*wire.BGPMessage{u.SentOpenMsg, u.ReceivedOpenMsg} {
			again, _ := got.Serialize()
			if want := [][]byte{sent, received}[i]; string(again) != string(want) {
				t.Errorf("OPEN %d: GoBGP reads %x, want %x", i, again, want)
			}
		}
	}
	// RFC 9069 section 5.2: no address, no ports, made-up OPENs, the table's name.
	open := openOf(t, table.asn, table.id)
	m := read(t, appendPeerUp(nil, table, peerUp{sent: open, received: open, table: "main"}))
	samePeer(t, m, table)
	u := m.Body.(*oracle.BMPPeerUpNotification)
	if !u.LocalAddress.IsUnspecified() || u.LocalPort != 0 || u.RemotePort != 0 {
		t.Errorf("Loc-RIB: GoBGP reads %s ports %d %d", u.LocalAddress, u.LocalPort, u.RemotePort)
	}
	if name := u.Info[0].(*oracle.BMPInfoTLVString); name.Type != infoTable || name.Value != "main" {
		t.Errorf("Loc-RIB: GoBGP reads the name %+v", name)
	}
}

func TestRFC7854_4_9_PeerDown(t *testing.T) {
	shutdown := message(3, []byte{6, 2, 3, 'b', 'y', 'e'}) // RFC 9003
	for _, c := range []struct {
		reason downReason
		data   []byte
	}{
		{downLocalNotification, shutdown}, {downRemoteNotification, shutdown},
		{downLocal, []byte{0, 18}}, {downRemote, nil}, {downNotMonitored, nil},
	} {
		m := read(t, appendPeerDown(nil, peer6, c.reason, c.data))
		samePeer(t, m, peer6)
		d := m.Body.(*oracle.BMPPeerDownNotification)
		if d.Reason != uint8(c.reason) {
			t.Errorf("reason %d, want %d", d.Reason, c.reason)
		}
		switch c.reason {
		case downLocalNotification, downRemoteNotification:
			n := d.BGPNotification.Body.(*wire.BGPNotification)
			if n.ErrorCode != 6 || n.ErrorSubcode != 2 || string(n.Data) != "\x03bye" {
				t.Errorf("reason %d: NOTIFICATION %+v", c.reason, n)
			}
		default:
			if string(d.Data) != string(c.data) {
				t.Errorf("reason %d: data %x, want %x", c.reason, d.Data, c.data)
			}
		}
	}
}

func TestRFC7854_4_6_RouteMonitoring(t *testing.T) {
	endOfRIB := message(2, []byte{0, 0, 0, 0})
	for _, flags := range []byte{0, flagPostPolicy} {
		m := read(t, appendRouteMonitoring(nil, peer4, flags, endOfRIB))
		samePeer(t, m, peer4)
		if m.PeerHeader.IsPostPolicy() != (flags != 0) || m.PeerHeader.IsAdjRIBOut() {
			t.Errorf("flags %x read as %x", flags, m.PeerHeader.Flags)
		}
		u := m.Body.(*oracle.BMPRouteMonitoring).BGPUpdate
		if end, f := u.Body.(*wire.BGPUpdate).IsEndOfRib(); !end || f != wire.RF_IPv4_UC {
			t.Errorf("GoBGP reads %+v", u)
		}
	}
}

func TestRFC7854_4_8_StatisticsReport(t *testing.T) {
	b := appendStatistics(nil, peer4, []stat{
		{typ: statRejected, value: 3}, {typ: statAdjRIBIn, value: 1 << 40},
		{typ: statAdjRIBInOf, value: 7, afi: 2}, {typ: statAdjRIBOutOf, value: 8, afi: 1},
	})
	equal(t, b[48:], `
		00000004            # four of them
		0000 0004 00000003  # 0, a counter: prefixes rejected by inbound policy
		0007 0008 0000010000000000          # 7, a gauge: routes in Adj-RIB-In
		0009 000b 0002 01 0000000000000007  # 9, a gauge: of these IPv6 unicast
		0011 000b 0001 01 0000000000000008  # 17 (RFC 8671): IPv4 unicast in Adj-RIB-Out`)
	m := read(t, b)
	samePeer(t, m, peer4)
	s := m.Body.(*oracle.BMPStatisticsReport).Stats
	if len(s) != 4 || s[0].(*oracle.BMPStatsTLV32).Value != 3 || s[1].(*oracle.BMPStatsTLV64).Value != 1<<40 ||
		s[2].(*oracle.BMPStatsTLVPerAfiSafi64).AFI != 2 || s[3].(*oracle.BMPStatsTLVPerAfiSafi64).Value != 8 {
		t.Errorf("GoBGP reads %+v", s)
	}
}
