// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/bfd"
	"github.com/muslin-net/muslin/internal/bfdd"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/node/api"
)

// metrics serves the local API's /metrics. Values are gathered when they are
// scraped, but for those of newUpdateToKernel; nothing is counted twice to be shown.
func (d *Daemon) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), statusCollector{d}, d.updateToKernel)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// statusCollector turns the status into metrics.
type statusCollector struct{ d *Daemon }

var (
	descLive     = prometheus.NewDesc("muslin_live", "1 when the kernel is equal to the newest revision read.", nil, nil)
	descRevision = prometheus.NewDesc("muslin_revision", "Datastore revision, by whether it is seen or live.", []string{"state"}, nil)
	descObjects  = prometheus.NewDesc("muslin_objects", "What this node has, by kind.", []string{"kind"}, nil)
	descProblems = prometheus.NewDesc("muslin_problems", "Objects in error.", nil, nil)
	descRepairs  = prometheus.NewDesc("muslin_drift_repaired_total", "Changes by others that were put back, by kind.", []string{"kind"}, nil)
	descCommits  = prometheus.NewDesc("muslin_acl_commits_total", "Transactions of the packet filter.", nil, nil)
	descMessages = prometheus.NewDesc("muslin_acl_messages_total", "Netlink messages in these transactions.", nil, nil)
	descFailed   = prometheus.NewDesc("muslin_acl_failed_total", "Transactions of the packet filter that the kernel refused.", nil, nil)
	descTables   = prometheus.NewDesc("muslin_route_table_reads_total", "How often the kernel's routing table had to be read as a whole, beside the regular comparison.", nil, nil)
	descFlows    = prometheus.NewDesc("muslin_flows_reviewed_total", "Established flows that a change of policy concerned, by what became of them.", []string{"fate"}, nil)
	descStale    = prometheus.NewDesc("muslin_datastore_events_stale_total", "Events of the datastore that were older than what was known.", nil, nil)
	descLost     = prometheus.NewDesc("muslin_datastore_events_lost_total", "Changes that no event told of, found by comparing.", nil, nil)
	descPeerUp   = prometheus.NewDesc("muslin_bgp_peer_up", "1 when the session is Established.", []string{"peer", "address"}, nil)
	descPeerUps  = prometheus.NewDesc("muslin_bgp_peer_established_total", "How often the session became Established.", []string{"peer", "address"}, nil)
	descPeerIn   = prometheus.NewDesc("muslin_bgp_peer_received_routes", "Routes in Adj-RIB-In.", []string{"peer", "address"}, nil)
	descPeerNo   = prometheus.NewDesc("muslin_bgp_peer_rejected_routes", "Routes in Adj-RIB-In that are not used, by kind of reason.", []string{"peer", "address", "reason"}, nil)
)

// Of BFD.
var (
	descPathUp     = prometheus.NewDesc("muslin_bfd_session_up", "1 when the BFD session is Up.", []string{"peer", "address"}, nil)
	descPathLost   = prometheus.NewDesc("muslin_bfd_session_failures_total", "How often the path was lost while the session was Up.", []string{"peer", "address"}, nil)
	descPathPacket = prometheus.NewDesc("muslin_bfd_session_packets_total", "BFD packets, by direction.", []string{"peer", "address", "direction"}, nil)
)

// Describe sends nothing: the collector is unchecked, because the set of
// peers changes.
func (statusCollector) Describe(chan<- *prometheus.Desc) {}

// Collect gathers the values.
func (c statusCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var s api.Status
	s, _ = c.d.board.read()
	var written acl.Stats
	var flows acl.Reviewed
	var waiting []api.Peer
	reads := 0
	c.d.loop.call(ctx, func() {
		c.d.loop.fill(&s)
		if t, ok := c.d.loop.routes.(rereader); ok {
			reads = t.Reads()
		}
		written, flows, waiting = c.d.acl.Stats(), c.d.loop.established.total, c.d.loop.peeringInput().waiting()
	})
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descLive, boolValue(s.Live))
	gauge(descRevision, float64(s.SeenRevision), "seen")
	gauge(descRevision, float64(s.LiveRevision), "live")
	gauge(descProblems, float64(len(s.Problems)))
	for kind, n := range s.Counts {
		gauge(descObjects, float64(n), kind)
	}
	for kind, n := range s.Repairs {
		out <- prometheus.MustNewConstMetric(descRepairs, prometheus.CounterValue, float64(n), kind)
	}
	for desc, n := range map[*prometheus.Desc]int{descCommits: written.Commits, descMessages: written.Messages, descFailed: written.Failed} {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n))
	}
	out <- prometheus.MustNewConstMetric(descTables, prometheus.CounterValue, float64(reads))
	for fate, n := range map[string]int{"cut": flows.Cut, "restored": flows.Restored, "ended": flows.Ended} {
		out <- prometheus.MustNewConstMetric(descFlows, prometheus.CounterValue, float64(n), fate)
	}
	w := c.d.store.WatchStats()
	out <- prometheus.MustNewConstMetric(descStale, prometheus.CounterValue, float64(w.Stale))
	out <- prometheus.MustNewConstMetric(descLost, prometheus.CounterValue, float64(w.Lost))
	c.collectBFD(ctx, out)
	peers := c.d.speaker.Peers()
	collectBGP(out, peers, c.d.speaker.Tables())
	for _, p := range waiting {
		gauge(descPeerUp, 0, p.Name, p.Interface)
	}
	for _, p := range peers {
		gauge(descPeerUp, boolValue(p.State == bgp.Established.String()), p.Name, p.Addr.String())
		gauge(descPeerIn, float64(p.Received), p.Name, p.Addr.String())
		for reason, n := range p.Rejected {
			gauge(descPeerNo, float64(n), p.Name, p.Addr.String(), reason)
		}
		out <- prometheus.MustNewConstMetric(descPeerUps, prometheus.CounterValue, float64(p.Established), p.Name, p.Addr.String())
	}
}

// collectBFD asks the process: the agent is told of changes of state alone.
func (c statusCollector) collectBFD(ctx context.Context, out chan<- prometheus.Metric) {
	r, err := bfdd.Ask(ctx, c.d.cfg.RunDir)
	if err != nil {
		return // none runs, or it says so itself
	}
	for _, s := range r.Sessions {
		labels := []string{s.Name, s.Peer.String()}
		counter := func(d *prometheus.Desc, v uint64, more ...string) {
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append(labels[:2:2], more...)...)
		}
		out <- prometheus.MustNewConstMetric(descPathUp, prometheus.GaugeValue, boolValue(s.State == bfd.Up.String()), labels...)
		counter(descPathLost, s.Failures)
		counter(descPathPacket, s.PacketsIn, "in")
		counter(descPathPacket, s.PacketsOut, "out")
	}
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
