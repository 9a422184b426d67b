// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	_ "embed"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// policies is what the demo applies: the file a reader may look at and change.
//
//go:embed policy.yaml
var policies string

// prefix starts the name of every network namespace of the demo.
const prefix = "muslin-demo"

var servers = []cluster.Server{
	{Name: "compute-1", V4: netip.MustParsePrefix("10.0.0.1/24"), V6: netip.MustParsePrefix("fd00::1/64")},
	{Name: "compute-2", V4: netip.MustParsePrefix("10.0.0.2/24"), V6: netip.MustParsePrefix("fd00::2/64")},
	{Name: "compute-3", V4: netip.MustParsePrefix("10.0.0.3/24"), V6: netip.MustParsePrefix("fd00::3/64")},
}

// workload is a namespace that gets attached to a server.
type workload struct {
	name   string
	server int // index into servers
	labels map[string]string
}

var workloads = []workload{
	{"web-1", 0, map[string]string{"role": "web"}},
	{"web-2", 1, map[string]string{"role": "web"}},
	{"api", 1, map[string]string{"role": "api"}},
	{"db", 2, map[string]string{"role": "db"}},
	{"monitor", 2, map[string]string{"role": "monitor"}},
	{"mole", 0, map[string]string{"role": "web", "quarantine": "yes"}},
}

// service is one kind of probe.
type service struct {
	proto lab.Proto
	port  uint16
	text  string
}

var services = []service{
	{lab.TCP, 80, "tcp/80"},
	{lab.TCP, 8080, "tcp/8080"},
	{lab.TCP, 5432, "tcp/5432"},
	{lab.ICMP, 0, "icmp"},
}

// allowed is the expectation, written by hand from what the policies mean and
// not computed from them: everything else must not pass.
var allowed = map[[2]string][]string{
	{"web-1", "api"}:     {"tcp/8080"},
	{"web-2", "api"}:     {"tcp/8080"},
	{"api", "db"}:        {"tcp/5432"},
	{"monitor", "web-1"}: {"tcp/80", "icmp"},
	{"monitor", "web-2"}: {"tcp/80", "icmp"},
	{"monitor", "api"}:   {"icmp"},
	{"monitor", "db"}:    {"icmp"},
}

func expected(from, to string, s service) bool {
	return slices.Contains(allowed[[2]string{from, to}], s.text)
}
