// SPDX-License-Identifier: Apache-2.0

package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muslin-net/muslin/internal/bgp"
)

var (
	descPeerState    = prometheus.NewDesc("muslin_bgp_peer_state", "State of the session: 0 Idle, 1 Connect, 2 Active, 3 OpenSent, 4 OpenConfirm, 5 Established.", []string{"peer", "address"}, nil)
	descPeerRoutes   = prometheus.NewDesc("muslin_bgp_peer_routes", "Routes of a session, by family and what became of them.", []string{"peer", "address", "family", "verdict"}, nil)
	descPeerMessages = prometheus.NewDesc("muslin_bgp_peer_messages_total", "Messages, by direction and type.", []string{"peer", "address", "direction", "type"}, nil)
	descPeerErrors   = prometheus.NewDesc("muslin_bgp_peer_malformed_total", "What a peer sent that ended no session: UPDATEs treated as withdrawal, attributes discarded.", []string{"peer", "address", "remedy"}, nil)
	descPeerQueue    = prometheus.NewDesc("muslin_bgp_peer_queue", "What waits for the peer to read it, in octets, messages and prefixes.", []string{"peer", "address", "unit"}, nil)
	descRIB          = prometheus.NewDesc("muslin_bgp_rib_size", "Sizes of the tables: prefixes, paths, sets of attributes, export groups.", []string{"of"}, nil)
	descSelections   = prometheus.NewDesc("muslin_bgp_selection_changes_total", "How often the best paths of a prefix changed.", nil, nil)
)

// newUpdateToKernel is of routes, not of messages: a table of half a million counts
// that often. What the kernel refused, and what a message did not cause, is not in it.
func newUpdateToKernel() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "muslin_bgp_update_to_kernel_seconds",
		Help:    "Time from the receipt of an UPDATE until the kernel has acknowledged the route that it changed.",
		Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
	})
}

// collectBGP gathers what concerns sessions and their tables.
func collectBGP(out chan<- prometheus.Metric, peers []bgp.PeerStatus, tables bgp.Tables) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, p := range peers {
		addr := p.Addr.String()
		for st := bgp.Idle; st <= bgp.Established; st++ {
			if st.String() == p.State {
				gauge(descPeerState, int(st), p.Name, addr)
			}
		}
		for family, f := range p.Family {
			for verdict, n := range map[string]int{"received": f.Received, "accepted": f.Accepted, "rejected": f.Rejected, "advertised": f.Advertised, "stale": f.Stale} {
				gauge(descPeerRoutes, n, p.Name, addr, family, verdict)
			}
		}
		for direction, types := range map[string]map[string]uint64{"in": p.Messages.Received, "out": p.Messages.Sent} {
			for typ, n := range types {
				counter(descPeerMessages, n, p.Name, addr, direction, typ)
			}
		}
		counter(descPeerErrors, p.Errors.Withdrawn, p.Name, addr, "treat-as-withdraw")
		counter(descPeerErrors, p.Errors.Discarded, p.Name, addr, "attribute-discard")
		for unit, n := range map[string]int{"octets": p.Queue.Octets, "messages": p.Queue.Messages, "prefixes": p.Queue.Prefixes} {
			gauge(descPeerQueue, n, p.Name, addr, unit)
		}
	}
	for of, n := range map[string]int{"prefixes": tables.Prefixes, "paths": tables.Paths, "attributes": tables.Attributes, "groups": tables.Groups} {
		gauge(descRIB, n, of)
	}
	counter(descSelections, tables.Selections)
}
