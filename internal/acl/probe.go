// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// lacks is why the kernel lacks what the table can do without. What only frames need is
// a hook on an interface that is not there, for when it comes (nobody else can be sooner
// than its first packet), and sending a frame back from there. Who may send from networks
// of others needs zones of connection tracking (CONFIG_NF_CONNTRACK_ZONES).
// Owners of tables are programs that alone may change them, and whose tables stay
// when they end.
type lacks struct{ frames, zones, owners error }

// Features that are lacked so.
const (
	featHooks   = "hooks of interfaces to come"
	featAnswers = "fwd expressions"
	featZones   = "zones of connections"
	featOwners  = "owners of tables"
)

// feature is what a rule of the probe needs.
type feature struct {
	name, module string
	rule         *rule
}

// probe finds out whether the kernel has every feature the table is made of. It sends a transaction with one object of
// each kind whose last message must fail, so that nothing is ever committed. To
// undo one the kernel waits for all processors: there is only one.
func (s *socket) probe() (lacks, error) {
	var t tx
	for _, table := range tables {
		flags, err := s.tableFlags(table) // one that is there takes no others
		if err != nil {
			return lacks{}, err
		}
		t.table.addTable(table, flags)
	}
	t.table.probeOwner()
	t.newSet(&set{name: "probe-vmap", typ: setVmap, static: true}, nil)
	t.newSet(&set{name: "probe-concat", typ: setIfIPv6, static: true}, nil)
	t.newSet(&set{name: "probe-interval", typ: setIPv6, static: true}, nil)
	t.newSet(&set{name: "probe-traffic", typ: setTraffic, static: true}, nil)
	dispatch := &rb{}
	dispatch.load(expr.MetaKeyIIFNAME, reg1)
	dispatch.lookup("probe-vmap", reg1, unix.NFT_REG_VERDICT)
	features := []feature{
		{"verdict maps", "nf_tables", dispatch.done("")},
		{"concatenations", "nf_tables", (&rb{}).iifAnd(expr.PayloadBaseNetworkHeader, ipv6.src, ipv6.bytes, "", "probe-concat").done("")},
		{"interval sets", "nf_tables", (&rb{}).addrIn(ipv6, source, &set{name: "probe-interval"}, false).done("")},
		{"limits by interface", "nft_limit", (&rb{}).note("probe-traffic", arpMemory, "limit", arpRate.put).done("")},
		{"fib expressions", "nft_fib_inet", (&rb{}).reversePath().done("")},
		{"connection tracking", "nft_ct", (&rb{}).ctState(ctInvalid, "").done("")},
		{"marks of connections", "nft_ct", (&rb{}).ctMarkIs(markCut, markCut, false).ctSetMark(^uint32(1<<shiftIn), 1<<shiftIn).done("")},
		{featZones, "nft_ct", (&rb{}).ctZoneOfInterface().ctZone().done("")},
		{"log expressions", "nft_log", (&rb{}).log("probe").done("")},
	}
	c := &chain{name: "probe"}
	t.chains.addChain(c)
	for _, f := range features {
		t.rules.addRule(f.name, c.name, f.rule)
	}
	frames := &chain{name: in(netdevTable, "probe"), owner: featHooks, hook: &hook{priority: priorityFrames, device: "muslin probe"}}
	t.chains.addChain(frames)
	t.rules.addRule(featAnswers, frames.name, (&rb{}).answer().done(""))
	t.goneChain.delChain("end", "probe-does-not-exist")
	err := s.transact(t.all())
	var r refusals
	if !errors.As(err, &r) {
		return lacks{}, fmt.Errorf("probe nftables: %w", err)
	}
	return judgeProbe(r, features)
}

// judgeProbe tells what the kernel's answer to a probe means.
func judgeProbe(r refusals, features []feature) (l lacks, err error) {
	var missing []error
	for _, x := range r {
		switch {
		case x.owner == "end" || x.owner == "" && x.errno == unix.ENOENT:
		case x.errno == unix.EPERM:
			return lacks{}, fmt.Errorf("nftables: %w (CAP_NET_ADMIN is needed, and no table %s may belong to another process)", syscall.Errno(unix.EPERM), TableName)
		case x.owner == featHooks:
			l.frames = fmt.Errorf("the kernel has no nftables hooks for interfaces to come (Linux 6.16 or later is needed): %w", x.errno)
		case x.owner == featAnswers:
			if l.frames == nil { // else there is no chain to try it in
				l.frames = fmt.Errorf("the kernel lacks nftables fwd expressions (module nft_fwd_netdev is needed): %w", x.errno)
			}
		case x.owner == featOwners:
			l.owners = fmt.Errorf("the kernel lacks owners of nftables tables that stay (Linux 6.9 or later is needed): %w", x.errno)
		case x.owner == featZones:
			l.zones = fmt.Errorf("the kernel lacks zones of connections (CONFIG_NF_CONNTRACK_ZONES is needed): %w", x.errno)
		case x.owner == "":
			missing = append(missing, fmt.Errorf("the kernel lacks nftables for families inet, arp and netdev (Linux 5.10 or later is needed): %w", x.errno))
		default:
			for _, f := range features {
				if f.name == x.owner {
					missing = append(missing, fmt.Errorf("the kernel lacks nftables %s (Linux 5.10 or later with module %s is needed): %w", f.name, f.module, x.errno))
				}
			}
		}
	}
	return l, errors.Join(missing...)
}
