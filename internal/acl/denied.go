// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/policy"
)

// deniedGroup is our group of the kernel's packet log (nfnetlink_log); a group
// has one listener. deniedHead is how much of a packet is copied: headers.
const (
	deniedGroup  = 0x6d75
	deniedHead   = 128
	deniedPrefix = "muslin-denied"
)

// deny ends a rule for packets that policy denies.
func (r *renderer) deny(b *rb) *rb {
	if r.opts.Denied.Packets == 0 {
		return b.drop()
	}
	return b.goTo(ChainDenied)
}

// denied renders the chain that logs, if there is to be one.
func (r *renderer) denied() []*chain {
	if r.opts.Denied.Packets == 0 {
		return nil
	}
	c := &chain{name: ChainDenied}
	c.add(r.rule().limit(r.opts.Denied).nflog(deniedGroup, deniedHead, deniedPrefix).done("sampled"))
	c.add(r.rule().drop().done(""))
	return []*chain{c}
}

// limit ends the rule for packets beyond the rate.
func (r *rb) limit(rate Rate) *rb {
	r.expr("limit", rate.put)
	return r.say("limit rate %d/%v burst %d packets", rate.Packets, rate.Unit, rate.Burst)
}

// put writes the data of a limit expression.
func (rate Rate) put(b *buf) {
	b.attr(unix.NFTA_LIMIT_RATE, binary.BigEndian.AppendUint64(nil, uint64(rate.Packets)))
	b.attr(unix.NFTA_LIMIT_UNIT, binary.BigEndian.AppendUint64(nil, uint64(rate.Unit/time.Second)))
	b.u32(unix.NFTA_LIMIT_BURST, rate.Burst)
	b.u32(unix.NFTA_LIMIT_TYPE, unix.NFT_LIMIT_PKTS)
}

// nflog copies the head of the packet to a group and goes on.
func (r *rb) nflog(group uint16, head uint32, prefix string) *rb {
	r.expr("log", func(b *buf) {
		b.attr(unix.NFTA_LOG_GROUP, binary.BigEndian.AppendUint16(nil, group))
		b.str(unix.NFTA_LOG_PREFIX, prefix)
		b.u32(unix.NFTA_LOG_SNAPLEN, head)
	})
	return r.say("log prefix %q group %d snaplen %d", prefix, group, head)
}

// DeniedLog is what the kernel copies of denied packets. It is not safe for
// concurrent use, and may be used beside a Table.
type DeniedLog struct {
	sock *socket
	// Lost counts the times that the kernel had more than there was room for.
	Lost int
}

// Messages and attributes of linux/netfilter/nfnetlink_log.h.
const (
	ulogPacket = unix.NFNL_SUBSYS_ULOG << 8   // NFULNL_MSG_PACKET
	ulogConfig = unix.NFNL_SUBSYS_ULOG<<8 | 1 // NFULNL_MSG_CONFIG

	ulogCfgCmd     = 1 // NFULA_CFG_CMD
	ulogCfgMode    = 2
	ulogCfgTimeout = 4
	ulogCmdBind    = 1 // NFULNL_CFG_CMD_BIND
	ulogCopyPacket = 2

	ulogHeader  = 1 // NFULA_PACKET_HDR
	ulogIn      = 4 // NFULA_IFINDEX_INDEV
	ulogOut     = 5
	ulogPayload = 9
)

// deniedRoom is what the kernel may keep for us: a few thousand packets.
const deniedRoom = 1 << 20

// OpenDenied listens to denied packets of the network namespace that a descriptor
// stands for, 0 for that of the calling thread.
func OpenDenied(netns int) (*DeniedLog, error) {
	s, err := openSocket(netns)
	if err != nil {
		return nil, err
	}
	s.option(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, deniedRoom)
	var m msgs
	m.header("", ulogConfig, unix.NLM_F_ACK, unix.AF_UNSPEC, deniedGroup)
	m.data.attr(ulogCfgCmd, []byte{ulogCmdBind})
	m.end()
	m.header("", ulogConfig, unix.NLM_F_ACK, unix.AF_UNSPEC, deniedGroup)
	m.data.attr(ulogCfgMode, []byte{0, 0, 0, deniedHead, ulogCopyPacket, 0})
	m.data.u32(ulogCfgTimeout, 10) // of 10 ms: how long the kernel gathers before it tells
	m.end()
	if err := s.each(&m, func(_ int, err error) error { return err }); err != nil {
		s.close()
		if errors.Is(err, unix.EPERM) { // what the kernel says of a group that is bound already, too
			err = fmt.Errorf("another process listens, or CAP_NET_ADMIN is missing: %w", err)
		}
		return nil, fmt.Errorf("packet log, group %d: %w", deniedGroup, err)
	}
	return &DeniedLog{sock: s}, nil
}

// Close ends listening.
func (l *DeniedLog) Close() error { return l.sock.close() }

// Read waits for denied packets and hands them to f, as they come from the
// kernel, until the context ends; then it returns nil. f must not keep the slice.
func (l *DeniedLog) Read(ctx context.Context, f func([]Denied)) error {
	l.sock.file.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { l.sock.file.SetDeadline(time.Unix(1, 0)) }) // wakes the reader
	defer stop()
	var list []Denied
	for {
		list = list[:0]
		err := l.sock.receive(func(typ, _ uint16, _, _ uint32, data []byte) error {
			if d, ok := parseDenied(typ, data, l.sock.interfaceName); ok {
				list = append(list, d)
			}
			return nil
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			l.Lost++
		case err != nil:
			return fmt.Errorf("read denied packets: %w", err)
		}
		if len(list) > 0 {
			f(list)
		}
	}
}

// parseDenied reads one message; name tells the name of an interface by its number.
func parseDenied(typ uint16, data []byte, name func(uint32) string) (d Denied, ok bool) {
	if typ != ulogPacket || len(data) < 4 {
		return d, false
	}
	attrs(data[4:], func(typ uint16, v []byte) bool {
		switch typ {
		case ulogHeader: // struct nfulnl_msg_packet_hdr: protocol, hook, padding
			d.Direction = policy.Egress
			if len(v) >= 3 && (v[2] == unix.NF_INET_FORWARD || v[2] == unix.NF_INET_LOCAL_IN) {
				d.Direction = policy.Ingress
			}
		case ulogIn:
			d.In = numbered(v, name)
		case ulogOut:
			d.Out = numbered(v, name)
		case ulogPayload:
			d.Packet, ok = parsePacket(v)
		}
		return true
	})
	return d, ok
}

func numbered(v []byte, name func(uint32) string) string {
	if len(v) < 4 {
		return ""
	}
	return name(binary.BigEndian.Uint32(v))
}

// interfaceName is the name of an interface of the socket's network namespace, empty
// if it is gone.
func (s *socket) interfaceName(index uint32) (name string) {
	s.raw.Control(func(fd uintptr) {
		var r unix.Ifreq
		r.SetUint32(index)
		if unix.IoctlIfreq(int(fd), unix.SIOCGIFNAME, &r) == nil {
			name = r.Name()
		}
	})
	return name
}
