// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// column is one column of a kind's table: a heading, the member it shows, and
// what stands there when the member is absent.
type column struct {
	head  string
	path  string
	empty string
	wide  bool // only with -o wide
}

const absent = "-"

var nameColumn = column{head: "NAME", path: "metadata.name"}

func policyColumns() []column {
	return []column{
		nameColumn,
		{head: "TIER", path: "spec.tier", empty: "default"},
		{head: "ORDER", path: "spec.order", wide: true},
		{head: "SELECTOR", path: "spec.selector", empty: "all()", wide: true},
	}
}

// columns returns the columns of a kind; they are calicoctl's.
func columns(kind string) []column {
	switch kind {
	case "Node":
		return []column{
			nameColumn,
			{head: "ASN", path: "spec.bgp.asNumber", empty: "(cluster's)", wide: true},
			{head: "IPV4", path: "spec.bgp.ipv4Address", wide: true},
			{head: "IPV6", path: "spec.bgp.ipv6Address", wide: true},
		}
	case "WorkloadEndpoint":
		return []column{
			{head: "NAME", path: "metadata.name", wide: true},
			{head: "WORKLOAD", path: "spec.workload|spec.pod|spec.containerID"},
			{head: "NODE", path: "spec.node"},
			{head: "NETWORKS", path: "spec.ipNetworks"},
			{head: "INTERFACE", path: "spec.interfaceName"},
			{head: "PROFILES", path: "spec.profiles", wide: true},
			{head: "NATS", path: "spec.ipNATs", wide: true},
		}
	case "HostEndpoint":
		return []column{
			nameColumn,
			{head: "NODE", path: "spec.node"},
			{head: "INTERFACE", path: "spec.interfaceName", wide: true},
			{head: "IPS", path: "spec.expectedIPs", wide: true},
			{head: "PROFILES", path: "spec.profiles", wide: true},
		}
	case "NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy":
		return policyColumns()
	case "StagedKubernetesNetworkPolicy":
		return []column{nameColumn, {head: "STAGED", path: "spec.stagedAction", empty: "Set"}, {head: "TYPES", path: "spec.policyTypes", wide: true}}
	case "Tier":
		return []column{nameColumn, {head: "ORDER", path: "spec.order"}, {head: "DEFAULTACTION", path: "spec.defaultAction", empty: "Deny", wide: true}}
	case "Profile":
		return []column{nameColumn, {head: "LABELS", path: "spec.labelsToApply", wide: true}}
	case "NetworkSet", "GlobalNetworkSet":
		return []column{nameColumn, {head: "NETS", path: "spec.nets", wide: true}}
	case "IPPool":
		return []column{
			nameColumn,
			{head: "CIDR", path: "spec.cidr"},
			{head: "NAT", path: "spec.natOutgoing", empty: "false", wide: true},
			{head: "IPIPMODE", path: "spec.ipipMode", empty: "Never", wide: true},
			{head: "VXLANMODE", path: "spec.vxlanMode", empty: "Never", wide: true},
			{head: "DISABLED", path: "spec.disabled", empty: "false", wide: true},
			{head: "DISABLEBGPEXPORT", path: "spec.disableBGPExport", empty: "false", wide: true},
			{head: "SELECTOR", path: "spec.nodeSelector", empty: "all()"},
			{head: "ASSIGNMENTMODE", path: "spec.assignmentMode", empty: "Automatic", wide: true},
		}
	case "IPReservation":
		return []column{nameColumn, {head: "CIDRS", path: "spec.reservedCIDRs", wide: true}}
	case "BGPConfiguration":
		return []column{
			nameColumn,
			{head: "LOGSEVERITY", path: "spec.logSeverityScreen"},
			{head: "MESHENABLED", path: "spec.nodeToNodeMeshEnabled"},
			{head: "ASNUMBER", path: "spec.asNumber"},
			{head: "LISTENPORT", path: "spec.listenPort", empty: "179", wide: true},
			{head: "COMMUNITIES", path: "spec.communities", wide: true},
			{head: "ADVERTISEMENTS", path: "spec.prefixAdvertisements", wide: true},
		}
	case "BGPPeer":
		return []column{
			nameColumn,
			{head: "PEERIP", path: "spec.peerIP|metadata.annotations.muslin/interface|metadata.annotations.muslin/listen-range"},
			{head: "NODE", path: "spec.node|spec.nodeSelector", empty: "(global)"},
			{head: "ASN", path: "spec.asNumber|metadata.annotations.muslin/remote-as|metadata.annotations.muslin/listen-as", empty: "0"},
			{head: "PEERSELECTOR", path: "spec.peerSelector|spec.localWorkloadSelector", wide: true},
			{head: "LOCALASN", path: "spec.localASNumber", wide: true},
			{head: "NEXTHOP", path: "spec.nextHopMode", empty: "Auto", wide: true},
			{head: "FILTERS", path: "spec.filters", wide: true},
		}
	case "BGPFilter":
		return []column{
			nameColumn,
			{head: "EXPORTV4", path: "spec.exportV4", wide: true},
			{head: "IMPORTV4", path: "spec.importV4", wide: true},
			{head: "EXPORTV6", path: "spec.exportV6", wide: true},
			{head: "IMPORTV6", path: "spec.importV6", wide: true},
		}
	case "ClusterInformation":
		return []column{
			nameColumn,
			{head: "CLUSTERGUID", path: "spec.clusterGUID"},
			{head: "CLUSTERTYPE", path: "spec.clusterType"},
			{head: "CALICOVERSION", path: "spec.calicoVersion"},
			{head: "DATASTOREREADY", path: "spec.datastoreReady"},
		}
	case "IPAMConfiguration":
		return []column{
			nameColumn,
			{head: "STRICTAFFINITY", path: "spec.strictAffinity", empty: "false"},
			{head: "AUTOALLOCATEBLOCKS", path: "spec.autoAllocateBlocks", empty: "false"},
			{head: "MAXBLOCKSPERHOST", path: "spec.maxBlocksPerHost", empty: "0", wide: true},
		}
	case "CalicoNodeStatus":
		return []column{nameColumn, {head: "NODE", path: "spec.node"}, {head: "CLASSES", path: "spec.classes", wide: true}}
	}
	return []column{nameColumn}
}

// row returns the cells of one object.
func row(cols []column, r v3.Resource) ([]string, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", showResource(r), err)
	}
	var tree map[string]any
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("%s: %w", showResource(r), err)
	}
	var out []string
	for _, c := range cols {
		out = append(out, cell(c, tree))
	}
	return out, nil
}

// cell shows the first member of the column's path that is there.
func cell(c column, tree map[string]any) string {
	for path := range strings.SplitSeq(c.path, "|") {
		var at any = tree
		for step := range strings.SplitSeq(path, ".") {
			m, ok := at.(map[string]any)
			if !ok {
				at = nil
				break
			}
			at = m[step]
		}
		if s := plainText(at); s != "" {
			return s
		}
	}
	if c.empty != "" {
		return c.empty
	}
	return absent
}

// plainText is a member as a cell shows it: lists with commas, objects as k=v.
func plainText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		var out []string
		for _, e := range v {
			out = append(out, plainText(e))
		}
		return strings.Join(out, ",")
	case map[string]any:
		var out []string
		for k, e := range v {
			out = append(out, k+"="+plainText(e))
		}
		slices.Sort(out)
		return strings.Join(out, ",")
	}
	return fmt.Sprint(v)
}
