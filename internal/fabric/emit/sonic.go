// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
)

// sonic writes a config_db.json for SONiC. Its tables have neighbours and addresses; filters, limits, AS
// override and the like are FRR's own configuration there, which the mode leaves to
// whoever writes frr.conf.
func (e *Emitter) sonic(d *fabric.Device) (string, error) {
	type fields map[string]string
	tables := map[string]map[string]fields{}
	put := func(table, key string, f fields) {
		if tables[table] == nil {
			tables[table] = map[string]fields{}
		}
		tables[table][key] = f
	}
	header := strings.TrimSpace(strings.TrimPrefix(e.header(d, "", fmt.Sprintf(notRun, "SONiC")), " "))
	// JSON has no comments: a table that nobody reads.
	put("MUSLIN", "header", fields{"text": header, "frr": "filters, limits and BFD are in frr.conf: muslin fabric emit --target frr --device " + d.Name})
	put("DEVICE_METADATA", "localhost", fields{"hostname": d.Name, "bgp_asn": strconv.FormatUint(uint64(d.AS), 10), "bgp_router_id": d.RouterID.String(),
		"type": map[fabric.Role]string{fabric.RoleToR: "ToRRouter", fabric.RoleSpine: "SpineRouter"}[d.Role], "docker_routing_config_mode": "split"})
	for _, i := range d.Interfaces {
		table, name := "INTERFACE", i.Name
		if name == "lo" {
			table, name = "LOOPBACK_INTERFACE", "Loopback0"
		}
		if len(i.Addresses) == 0 {
			return "", fmt.Errorf("%s: sessions without addresses are not written for SONiC: servers: {uplinks: routed}", d.Name)
		}
		put(table, name, fields{})
		for _, a := range i.Addresses {
			put(table, name+"|"+a.String(), fields{})
		}
	}
	staticLines(d, func(_ fabric.Family, p netip.Prefix, via netip.Addr) {
		put("STATIC_ROUTE", "default|"+p.String(), fields{"nexthop": via.String()})
	})
	flag := map[bool]string{true: "1", false: "0"}
	for _, p := range e.peers(d) {
		keepalive, hold := holdOf(p.Profile)
		for _, a := range p.Address {
			put("BGP_NEIGHBOR", a.String(), fields{"asn": strconv.FormatUint(uint64(p.AS), 10), "name": p.Name, "local_addr": localAddress(p.Port, a).String(),
				"holdtime": strconv.Itoa(hold), "keepalive": strconv.Itoa(keepalive), "nhopself": flag[p.Profile.NextHopSelf != fabric.NextHopSelfNone], "rrclient": flag[p.Profile.ReflectorClient]})
		}
	}
	out, err := json.MarshalIndent(tables, "", "    ")
	return string(out) + "\n", err
}
