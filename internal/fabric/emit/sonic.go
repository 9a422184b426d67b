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
	tables := configDB{}
	header := strings.TrimSpace(strings.TrimPrefix(e.header(d, "", fmt.Sprintf(notRun, "SONiC")), " "))
	// JSON has no comments: a table that nobody reads.
	tables.put("MUSLIN", "header", fields{"text": header, "frr": "filters, limits and BFD are in frr.conf: muslin fabric emit --target frr --device " + d.Name})
	tables.put("DEVICE_METADATA", "localhost", fields{
		"hostname": d.Name, "bgp_asn": asText(d.AS), "bgp_router_id": d.RouterID.String(),
		"type": map[fabric.Role]string{fabric.RoleToR: "ToRRouter", fabric.RoleSpine: "SpineRouter"}[d.Role], "docker_routing_config_mode": "split",
	})
	if err := tables.interfaces(d); err != nil {
		return "", err
	}
	staticLines(d, func(_ fabric.Family, p netip.Prefix, via netip.Addr) {
		tables.put("STATIC_ROUTE", "default|"+p.String(), fields{"nexthop": via.String()})
	})
	for _, p := range e.peers(d) {
		tables.neighbor(p)
	}
	out, err := json.MarshalIndent(tables, "", "    ")
	return string(out) + "\n", err
}

// configDB is a config_db.json: tables of objects.
type configDB map[string]map[string]fields

type fields map[string]string

func (c configDB) put(table, key string, f fields) {
	if c[table] == nil {
		c[table] = map[string]fields{}
	}
	c[table][key] = f
}

// interfaces are the ports with their addresses.
func (c configDB) interfaces(d *fabric.Device) error {
	for _, i := range d.Interfaces {
		table, name := "INTERFACE", i.Name
		if name == "lo" {
			table, name = "LOOPBACK_INTERFACE", "Loopback0"
		}
		if len(i.Addresses) == 0 {
			return fmt.Errorf("%s: sessions without addresses are not written for SONiC: servers: {uplinks: routed}", d.Name)
		}
		c.put(table, name, fields{})
		for _, a := range i.Addresses {
			c.put(table, name+"|"+a.String(), fields{})
		}
	}
	return nil
}

// neighbor is the sessions with a neighbour.
func (c configDB) neighbor(p peer) {
	flag := map[bool]string{true: "1", false: "0"}
	keepalive, hold := holdOf(p.Profile)
	for _, a := range p.Address {
		c.put("BGP_NEIGHBOR", a.String(), fields{
			"asn": asText(p.AS), "name": p.Name, "local_addr": localAddress(p.Port, a).String(), "holdtime": strconv.Itoa(hold), "keepalive": strconv.Itoa(keepalive),
			"nhopself": flag[p.Profile.NextHopSelf != fabric.NextHopSelfNone], "rrclient": flag[p.Profile.ReflectorClient],
		})
	}
}

func asText(as uint32) string { return strconv.FormatUint(uint64(as), 10) }
