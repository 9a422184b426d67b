// SPDX-License-Identifier: Apache-2.0

package fabric

const k Count = 1 << 10

// Catalogue is what silicon holds, by its name and the profile of its tables,
// as vendors publish it. Each figure is the limit of one table by itself: how
// many prefixes an LPM table takes also depends on the prefixes.
//
// Where hosts and longer prefixes are said to be in one table or the other
// decides about fabrics of host routes: the profile of the Trident2 that gives
// 128k LPM entries has room for 16k of them. Where the vendor does not say,
// nothing is claimed.
var Catalogue = []Platform{
	{Name: "trident2/junos-l2-profile-one", MAC: 288 * k, HostTable: 16 * k, LPMTable: 16 * k, HostRoutesIn: HostTable, Source: juniperUFT},
	{Name: "trident2/junos-l2-profile-three", MAC: 160 * k, HostTable: 144 * k, LPMTable: 16 * k, HostRoutesIn: HostTable, Source: juniperUFT},
	{Name: "trident2/junos-l3-profile", MAC: 96 * k, HostTable: 208 * k, LPMTable: 16 * k, HostRoutesIn: HostTable, Source: juniperUFT},
	{Name: "trident2/junos-lpm-profile", MAC: 32 * k, HostTable: 16 * k, LPMTable: 128 * k, HostRoutesIn: HostTable, Source: juniperUFT},
	{Name: "qfx5110/junos-lpm-profile", HostTable: 8 * k, LPMTable: 128 * k, Source: "Juniper KB34576"},
	{Name: "c9010/os9-default", MAC: 160 * k, HostTable: 144 * k, LPMTable: 16 * k, Source: dellUFT},
	{Name: "c9010/os9-scaled-l3-hosts", MAC: 96 * k, HostTable: 208 * k, LPMTable: 16 * k, Source: dellUFT},
	{Name: "c9010/os9-scaled-l3-routes", MAC: 32 * k, HostTable: 16 * k, LPMTable: 128 * k, Source: dellUFT},
	{Name: "x670-g2/exos-l2-and-l3", HostTable: 96 * k, LPMTable: 16 * k, Source: extremeLPM},
	{Name: "x670-g2/exos-more-l3", HostTable: 128 * k, LPMTable: 16 * k, Source: extremeLPM},
	{Name: "x670-g2/exos-more-routes", HostTable: 16 * k, LPMTable: 128 * k, Source: extremeLPM},
	{Name: "trident3/cumulus-default", MAC: 32 * k, HostTable: 16 * k, LPMTable: 128 * k, Source: cumulusTables},
	{Name: "trident3/cumulus-v4-lpm-heavy", MAC: 32 * k, HostTable: 16 * k, LPMTable: 128 * k, Source: cumulusTables},
	{Name: "trident3/cumulus-l2-heavy", MAC: 160 * k, HostTable: 96 * k, LPMTable: 8 * k, Source: cumulusTables},
	{Name: "tomahawk/cumulus-default", MAC: 40 * k, HostTable: 40 * k, LPMTable: 64 * k, Source: cumulusTables},
	{Name: "tomahawk/cumulus-v4-lpm-heavy", MAC: 8 * k, HostTable: 8 * k, LPMTable: 128 * k, Source: cumulusTables},
	{Name: "helix4/cumulus", MAC: 24 * k, HostTable: 12 * k, LPMTable: 7800, Source: cumulusTables},
	{Name: "spectrum/cumulus-default", MAC: 40 * k, HostTable: 32 * k, LPMTable: 64 * k, Source: cumulusTables},
	{Name: "spectrum/cumulus-v4-lpm-heavy-1", MAC: 8 * k, HostTable: 8 * k, LPMTable: 176 * k, Source: cumulusTables},
	{Name: "spectrum2/cumulus-lpm-balanced", MAC: 8 * k, HostTable: 8 * k, LPMTable: 120 * k, Source: cumulusTables},
	{Name: "jericho/flexroute", LPMTable: 1_000_000, HostRoutesIn: LPMTable, Source: "Arista, FlexRoute: more than a million"},
	{Name: "jericho2/flexroute", LPMTable: 2_500_000, HostRoutesIn: LPMTable, Source: "Arista, FlexRoute: more than 2.5 million"},
	{Name: "nexus3164q/nx-os", ECMP: 16, Source: "Cisco, Nexus 3164Q verified scalability 7.0(3)I4(1)"},
}

const (
	juniperUFT    = "Juniper, unified forwarding table: IPv4 /32 and IPv6 /128 are stored in the host table"
	dellUFT       = "Dell, C9010 configuration guide, UFT"
	extremeLPM    = "Extreme, EXOS user guide, LPM"
	cumulusTables = "NVIDIA, Cumulus Linux, supported route table entries"
)

// silicon finds an entry of the catalogue.
func silicon(name string) (Platform, bool) {
	for _, p := range Catalogue {
		if p.Name == name {
			return p, true
		}
	}
	return Platform{}, false
}

func siliconNames() (names []string) {
	for _, p := range Catalogue {
		names = append(names, p.Name)
	}
	return names
}
