// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Sets whose elements the packets themselves write: they are no part of what a
// table should be, and are neither read nor compared. Each is of interfaces of
// workloads, has room for all, and forgets one that has been silent.
const setSpoofed = "spoofed" // interfaces that speak as others, each with a counter

// setARPRate is the interfaces that speak ARP, each with its bucket.
var setARPRate = in(arpTable, "rate")

var setTraffic = &setType{unix.NFT_SET_EVAL | unix.NFT_SET_TIMEOUT, typeIfname, 16, 0, "ifname; flags dynamic,timeout; size 65535", trafficRoom}

// trafficRoom is how many interfaces such a set may have.
const trafficRoom = 65535

const (
	spoofedMemory = 24 * time.Hour
	arpMemory     = time.Minute
)

// arpRate is how many ARP messages of a workload its host takes. RFC 1122 section
// 2.3.2.1 has it ask once in a second for each address; at once it may ask for all
// of a small subnet.
var arpRate = Rate{Packets: 100, Unit: time.Second, Burst: 500}

// spoofed ends a chain for packets whose sender is not who it says. The drop is a
// rule of its own: one that finds no room to count would be left there.
func (r *renderer) spoofed(c *chain, why string) {
	c.add(r.rule().note(setSpoofed, spoofedMemory, "counter", func(*buf) {}).done(""))
	c.add(r.rule().drop().done(why))
}

// note writes the incoming interface to a set, and hands the packet to what the
// element holds: a counter, which counts it, or a bucket, which ends the rule for a
// packet that overflows it.
func (r *rb) note(set string, memory time.Duration, what string, f func(b *buf)) *rb {
	r.load(expr.MetaKeyIIFNAME, reg1)
	r.expr("dynset", func(b *buf) {
		b.str(unix.NFTA_DYNSET_SET_NAME, bare(set))
		b.u32(unix.NFTA_DYNSET_OP, unix.NFT_DYNSET_OP_UPDATE)
		b.u32(unix.NFTA_DYNSET_SREG_KEY, reg1)
		b.attr(unix.NFTA_DYNSET_TIMEOUT, binary.BigEndian.AppendUint64(nil, uint64(memory/time.Millisecond)))
		at := b.begin(unix.NFTA_DYNSET_EXPR)
		b.str(unix.NFTA_EXPR_NAME, what)
		d := b.begin(unix.NFTA_EXPR_DATA)
		f(b)
		b.end(d)
		b.end(at)
	})
	return r.say("update @%s { iifname timeout %v %s }", bare(set), memory, what)
}

// withinRate ends the rule for ARP beyond what a workload may say.
func (r *rb) withinRate() *rb {
	r.note(setARPRate, arpMemory, "limit", arpRate.put)
	return r.say("rate %d/%v burst %d packets", arpRate.Packets, arpRate.Unit, arpRate.Burst)
}

// Spoofed reads how often packets from the interfaces of workloads had a sender
// who was not theirs, by interface: of the last day in which they had any. It may
// be called beside a Table.
func Spoofed(netns int) (map[string]Hits, error) {
	s, err := openSocket(netns)
	if err != nil {
		return nil, err
	}
	defer s.close()
	out := map[string]Hits{}
	for range 10 {
		clear(out)
		err = s.dump(inetTable, unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, func(b *buf) {
			ours(b)
			b.str(unix.NFTA_SET_ELEM_LIST_SET, setSpoofed)
		}, func(data []byte) { spoofedIn(data, out) })
		if !errors.Is(err, errInterrupted) {
			break
		}
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("read set %s of table inet %s: %w", setSpoofed, TableName, err)
	}
	return out, nil
}

func spoofedIn(data []byte, out map[string]Hits) {
	attrs(data, func(typ uint16, v []byte) bool {
		if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return true
		}
		attrs(v, func(_ uint16, v []byte) bool {
			var name string
			var h Hits
			attrs(v, func(typ uint16, v []byte) bool {
				switch typ {
				case unix.NFTA_SET_ELEM_KEY:
					attrs(v, func(_ uint16, v []byte) bool { name = cstr(v); return true })
				case unix.NFTA_SET_ELEM_EXPR:
					h = counterHits(v)
				}
				return true
			})
			out[name] = h
			return true
		})
		return true
	})
}
