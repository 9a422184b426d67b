// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"slices"
	"testing"
)

// What every failure of one link, and of every two, does to the variants at 2 spines, 3 racks
// and 2 servers: cases with loss, of how many, the most pairs that are cut, and the worst
// loss of a pair. The numbers were found by another simulator, which agreed with
// real routers on every case that was tried with them; of two ToRs, it had a sample of the double
// failures, so that they are not here.
func TestFailureMatrix(t *testing.T) {
	for i, c := range []struct {
		variant              string
		single, singles      int
		worst                float64
		double, doubles, cut int
	}{
		{"rack-l3-unique", 0, 12, 0, 0, 66, 0},
		{"rack-l3-shared", 0, 12, 0, 6, 66, 8},
		{"rack-l3-roles", 0, 12, 0, 6, 66, 8},
		{"rack-l2-transit", 0, 12, 0, 0, 66, 0},
		{"rack-l2-valley-free", 0, 12, 0, 6, 66, 8},
		{"server-l3", 0, 12, 0, 0, 66, 0},
		{"server-l2", 0, 12, 0, 0, 66, 0},
		{"down-l3", 6, 12, 0.5, 51, 66, 8},
		{"down-l3-inter-spine", 0, 13, 0, 9, 78, 2},
		{"down-l3-border", 0, 14, 0, 15, 91, 2},
		{"down-l2", 0, 12, 0, 6, 66, 8},
		{"ether-1rr", 0, 14, 0, 13, 91, 30},
		{"ether-2rr", 0, 16, 0, 0, 120, 0},
		{"ether-2rr-all-planes", 6, 16, 1, 57, 120, 8},
		{"ether-2rr-add-path", 0, 16, 0, 0, 120, 0},
		{"ether-mesh", 0, 12, 0, 0, 66, 0},
		{"rack-l3-2tor", 0, 24, 0, -1, 276, 0},
		{"rack-l3-2tor-isl-force", 27, 27, 0.25, -1, 351, 0},
		{"rack-l3-2tor-isl-lp90", 0, 27, 0, -1, 351, 0},
		{"down-l3-2tor", 0, 24, 0, -1, 276, 0},
		{"down-l3-2tor-originates", 0, 24, 0, -1, 276, 0},
		{"down-l3-2tor-inter-spine", 0, 25, 0, 0, 300, 0},
	} {
		t.Run(c.variant, func(t *testing.T) {
			t.Parallel()
			v := variants[slices.IndexFunc(variants, func(v variant) bool { return v.name == c.variant })]
			for _, family := range turn(i) {
				s, err := New(v.size(3, 2, 2, 2).design(), family)
				if err != nil {
					t.Fatal(err)
				}
				things := 2
				if c.double < 0 {
					things = 1
				}
				w, err := s.WhatIf(things)
				if err != nil {
					t.Fatal(err)
				}
				if broken := c.variant == "rack-l3-2tor-isl-force"; w.Healthy.Pairs != 30 || w.Healthy.Whole() == broken || (w.Healthy.Looping > 0) != broken {
					t.Errorf("%s: healthy: %+v", family, w.Healthy)
				}
				for _, sum := range w.Sums {
					want := CaseSum{Kind: "link", Cases: c.singles, Lossy: c.single, Worst: c.worst}
					switch sum.Kind {
					case "link":
						sum.MaxCut = 0
					case "link + link":
						want = CaseSum{Kind: "link + link", Cases: c.doubles, Lossy: c.double, MaxCut: c.cut}
						sum.Worst = 0
					default:
						continue
					}
					if sum.Of = ""; sum != want {
						t.Errorf("%s: %+v, want %+v", family, sum, want)
					}
				}
			}
		})
	}
}

// How many paths, prefixes and peers a device has, in numbers of endpoints: closed forms for
// one ToR in each rack, against the simulation of a fabric that is larger than any scene.
func TestClosedForms(t *testing.T) {
	const R, S, E, P = 9, 7, 3, 3
	const N, n = R * S * E, S * E
	const D = N - n
	for _, c := range []struct {
		variant               string
		server, tor, spine    [2]int // paths and FIB entries, of endpoints; of spines all together
		serverPeers, torPeers int
		updates               int
	}{
		{"rack-l3-unique", [2]int{N, N - E}, [2]int{n + D*P, N}, [2]int{N*P + N*(R-1)*(P-1), N * P}, 1, S + P,
			1 + P + (S - 1) + P*(R-1) + (R-1)*S + (R-1)*(P-1)},
		{"rack-l3-roles", [2]int{N, N - E}, [2]int{n + D*P, N}, [2]int{N * P, N * P}, 1, S + P, 1 + P + (S - 1) + P*(R-1) + (R-1)*S},
		{"rack-l2-transit", [2]int{N, N - E}, [2]int{n + D*(R-1)*P, N}, [2]int{}, 1, S + (R-1)*P,
			1 + (S - 1) + (R-1)*P + (R-1)*S + (R-1)*(R-2)*P},
		{"rack-l2-valley-free", [2]int{N, N - E}, [2]int{n + D*P, N}, [2]int{}, 1, S + (R-1)*P, 1 + (S - 1) + (R-1)*P + (R-1)*S},
		{"server-l3", [2]int{N, N - E}, [2]int{n + D*P, N}, [2]int{N*P + N*(R-1)*(P-1), N * P}, 1, S + P,
			1 + P + (S - 1) + P*(R-1) + (R-1)*S + (R-1)*(P-1)},
		{"down-l3", [2]int{E + 1, 1}, [2]int{n + P, n + 1}, [2]int{N * P, N * P}, 1, S + P, 1 + P},
		{"down-l3-inter-spine", [2]int{E + 1, 1}, [2]int{n + P, n + 1}, [2]int{N * P * P, N * P}, 1, S + P, 1 + P + P*(P-1)},
		{"down-l2", [2]int{E + 1, 1}, [2]int{n + D*P, N}, [2]int{}, 1, S + (R-1)*P, 1 + (R-1)*P},
		{"ether-mesh", [2]int{E + (N-E)*P, N - E}, [2]int{}, [2]int{}, (R*S - 1) * P, 0, (R*S - 1) * P},
		{"ether-2rr", [2]int{E + (N-E)*P*2, N - E}, [2]int{}, [2]int{}, P * 2, 0, P*2 + P*2*(R*S-1) + P*2},
		{"ether-2rr-all-planes", [2]int{E + (N-E)*P*2, N - E}, [2]int{}, [2]int{}, P * 2, 0, -1},
		{"ether-2rr-add-path", [2]int{E + (N-E)*P*P*2, N - E}, [2]int{}, [2]int{}, P * 2, 0, -1},
	} {
		t.Run(c.variant, func(t *testing.T) {
			t.Parallel()
			v := variants[slices.IndexFunc(variants, func(v variant) bool { return v.name == c.variant })]
			for _, family := range families {
				d := v.size(R, S, E, P).design()
				onlyEndpoints(d)
				s, err := New(d, family)
				if err != nil {
					t.Fatal(err)
				}
				tables, err := s.Tables(Failure{})
				if err != nil {
					t.Fatal(err)
				}
				spines := [2]int{}
				for _, x := range tables.Devices {
					got := [2]int{x.Paths, x.FIB}
					switch x.Role {
					case "server":
						if got != c.server || x.Peers != c.serverPeers {
							t.Errorf("%s: %s: %v, %d peers, want %v, %d", family, x.Device, got, x.Peers, c.server, c.serverPeers)
						}
					case "tor":
						if got != c.tor || x.Peers != c.torPeers {
							t.Errorf("%s: %s: %v, %d peers, want %v, %d", family, x.Device, got, x.Peers, c.tor, c.torPeers)
						}
					case "spine":
						spines[0] += x.Paths
						spines[1] += x.FIB
					}
				}
				if spines != c.spine {
					t.Errorf("%s: spines: %v, want %v", family, spines, c.spine)
				}
				if c.updates >= 0 && tables.Updates != c.updates {
					t.Errorf("%s: %d updates for an endpoint, want %d", family, tables.Updates, c.updates)
				}
			}
		})
	}
}
