// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
)

var updatePages = flag.Bool("update", false, "write the tables of docs/fields.md and docs/annotations.md")

// proof is what a field of the BGP kinds does, and the tests that prove it. A field that
// does nothing here says why instead.
type proof struct {
	effect string
	tests  []string // "package Test"
	none   string
}

func by(effect string, tests ...string) proof { return proof{effect: effect, tests: tests} }
func none(why string) proof                   { return proof{none: why} }

const kubernetes = "Kubernetes only: there are no Services here"

var bgpFields = []struct {
	kind   string
	spec   any
	proofs map[string]proof
}{
	{"BGPConfiguration", v3.BGPConfigurationSpec{}, map[string]proof{
		"logSeverityScreen":                      by("what is logged of BGP: Debug every change of a session's state, None nothing; Info as `--log-level` says", "node TestBGPSeverity", "e2e TestBGPConfigurationFields"),
		"nodeToNodeMeshEnabled":                  by("a session between every two nodes, or none", "node TestPeering", "e2e TestB16_RouteReflectors"),
		"asNumber":                               by("AS number of nodes that have none of their own", "node TestPeering"),
		"serviceLoadBalancerIPs[].cidr":          by("may be announced by every node, and passed on", "filter TestDefaultExport", "node TestGranted"),
		"serviceExternalIPs[].cidr":              by("the same", "filter TestDefaultExport", "node TestGranted", "e2e TestBGPConfigurationFields"),
		"serviceClusterIPs[].cidr":               by("the same", "filter TestDefaultExport", "node TestGranted", "e2e TestBGPConfigurationFields"),
		"serviceLoadBalancerAggregation":         none(kubernetes),
		"communities[].name":                     by("a name for `prefixAdvertisements`", "filter TestDefaultExport", "filter TestNodeReplacesAdvertisements", "e2e TestBGPConfigurationFields"),
		"communities[].value":                    by("what it stands for, standard or large", "filter TestDefaultExport", "e2e TestBGPConfigurationFields"),
		"prefixAdvertisements[].cidr":            by("what lies in it is announced with communities", "filter TestDefaultExport", "filter TestNodeReplacesAdvertisements", "e2e TestBGPConfigurationFields"),
		"prefixAdvertisements[].communities":     by("which, by name or value", "filter TestDefaultExport", "e2e TestBGPConfigurationFields"),
		"listenPort":                             by("where nodes are connected to, and this one listens", "node TestPeering", "e2e TestBGPConfigurationFields"),
		"nodeMeshPassword.secretKeyRef.name":     by("TCP MD5 in the mesh: the folder of the secret", "node TestPeeringPasswords", "bgp TestB13_RFC2385_Passwords"),
		"nodeMeshPassword.secretKeyRef.key":      by("the file in it", "node TestPeeringPasswords"),
		"nodeMeshPassword.secretKeyRef.optional": none("a session that is to have a password has one, or is not there"),
		"nodeMeshMaxRestartTime":                 by("restart time that this node announces (RFC 4724)", "node TestPeeringOptions", "e2e TestFabricDeadAgent"),
		"bindMode":                               by("None: connections are accepted on every address. Else on the node's own", "node TestPeeringBindMode", "e2e TestBGPConfigurationFields"),
		"ignoredInterfaces":                      by("addresses of endpoints behind these are not announced on their own", "e2e TestBGPConfigurationFields"),
		"localWorkloadPeeringIPV4":               by("where workloads find this node, on their interfaces only", "node TestPeeringWithWorkloads", "e2e TestLocalWorkloadPeers"),
		"localWorkloadPeeringIPV6":               by("the same for IPv6", "node TestPeeringWithWorkloads", "e2e TestLocalWorkloadPeers"),
		"programClusterRoutes":                   by("of which pools learned routes go into the kernel, together with the FelixConfiguration's", "node TestOutOfKernel", "e2e TestBGPConfigurationFields"),
		"ipv4NormalRoutePriority":                by("metric and LOCAL_PREF of what is originated", "node TestPriorities", "e2e TestBGPConfigurationFields"),
		"ipv6NormalRoutePriority":                by("the same", "node TestPriorities", "e2e TestBGPConfigurationFields"),
	}},
	{"BGPPeer", v3.BGPPeerSpec{}, map[string]proof{
		"node":                           by("the node that has the session", "node TestPeering"),
		"nodeSelector":                   by("the nodes that have it; without both, all", "node TestPeering"),
		"peerIP":                         by("the neighbour, with its port if not 179 or the node's", "node TestPeering"),
		"peerSelector":                   by("the nodes that are neighbours, each way", "node TestPeering", "e2e TestB16_RouteReflectors"),
		"localWorkloadSelector":          by("the workloads of the node that are neighbours; it waits for them", "node TestPeeringWithWorkloads", "e2e TestLocalWorkloadPeers"),
		"asNumber":                       by("AS number of the neighbour", "node TestPeering", "e2e TestBIRD"),
		"localASNumber":                  by("this node's towards it, which also decides whether it is iBGP", "node TestPeeringOptions", "node TestPoliceOptions"),
		"keepOriginalNextHop":            by("as `nextHopMode: Keep`, eBGP only", "node TestPoliceOptions", "e2e TestBGPPeerFields"),
		"nextHopMode":                    by("next hops that are announced", "node TestPoliceOptions", "bgp TestExport_AgainstTwin"),
		"password.secretKeyRef.name":     by("TCP MD5: the folder of the secret", "node TestPeeringPasswords", "bgp TestB13_RFC2385_Passwords"),
		"password.secretKeyRef.key":      by("the file in it", "node TestPeeringPasswords"),
		"password.secretKeyRef.optional": none("a session that is to have a password has one, or is not there"),
		"sourceAddress":                  by("None: the kernel chooses where connections come from, or for a peer on a link the address on that, and that is the next hop", "node TestPeeringSourceAddress", "bgp TestDial_FromThePeersLink", "e2e TestBGPConfigurationFields"),
		"maxRestartTime":                 by("restart time that the neighbour is told, and for how long at most its routes are kept", "node TestPeeringOptions", "bgp TestB15_RFC4724_4_2_Expiry"),
		"keepaliveTime":                  by("keepalive; hold time is three times that", "node TestPeeringOptions"),
		"numAllowedLocalASNumbers":       by("how often our AS number may be in the path", "node TestPoliceOptions", "bgp TestB20_Loops", "e2e TestBGPPeerFields"),
		"ttlSecurity":                    by("how many hops away the neighbour is at most (RFC 5082)", "node TestPeeringOptions", "bgp TestRFC5082_AcceptsByDistance"),
		"reachableBy":                    by("a route to the neighbour over this gateway", "node TestReachable", "e2e TestBGPPeerWays"),
		"filters":                        by("BGPFilters, in order", "node TestPoliceImport"),
		"reversePeering":                 by("Manual: no session back from nodes that are neighbours", "node TestPeeringReverseOfAddress", "e2e TestBGPPeerWays"),
	}},
	{"Node", v3.NodeSpec{BGP: &v3.NodeBGP{}}, map[string]proof{
		"bgp.asNumber":                by("AS number of the node", "node TestPeeringNodeASNumber"),
		"bgp.ipv4Address":             by("where it is reached, next hop of its routes, router ID; its subnet", "node TestPeering", "e2e TestNode_OneFamily"),
		"bgp.ipv6Address":             by("the same for IPv6", "node TestPeering", "e2e TestNode_OneFamily"),
		"bgp.ipv4IPIPTunnelAddr":      by("an address of the node, which only it may announce", "node TestGranted"),
		"bgp.routeReflectorClusterID": by("the node reflects routes, and is not in the mesh (RFC 4456)", "node TestPeeringReflection", "e2e TestB16_RouteReflectors"),
	}},
	{"BGPFilter", v3.BGPFilterSpec{}, map[string]proof{
		"exportV4[]": by("rules for what is sent, IPv4", "filter TestOperations"),
		"importV4[]": by("for what is received", "filter TestRuleFields"),
		"exportV6[]": by("for what is sent, IPv6", "filter TestOperations"),
		"importV6[]": by("for what is received", "filter TestRuleFields"),
	}},
	{"BGPFilter rule", v3.BGPFilterRule{}, map[string]proof{
		"cidr":                              by("compared with the route's prefix", "filter TestRuleFields"),
		"prefixLength.min":                  by("least length; that of `cidr` if less", "filter TestRuleFields"),
		"prefixLength.max":                  by("greatest length", "filter TestRuleFields"),
		"matchOperator":                     by("Equal, NotEqual, In, NotIn", "filter TestRuleFields"),
		"source":                            by("RemotePeers: what BGP brought", "filter TestRuleFields"),
		"interface":                         by("through which the route leads, of endpoints and, on export, of what is learned", "filter TestRuleFields", "bgp TestInterfaceOfLearnedRoutes"),
		"peerType":                          by("sessions that are eBGP, or iBGP", "filter TestRuleFields"),
		"communities.values":                by("a community that the route has", "filter TestRuleFields"),
		"asPathPrefix":                      by("what the AS path begins with", "filter TestRuleFields"),
		"priority":                          by("LOCAL_PREF, as 2147483647 less this", "filter TestRuleFields"),
		"action":                            by("Accept or Reject", "filter TestRuleFields"),
		"operations[].addCommunity.value":   by("adds a community", "filter TestOperations"),
		"operations[].prependASPath.prefix": by("puts AS numbers before the path, in this order", "filter TestOperations"),
		"operations[].setPriority.value":    by("sets LOCAL_PREF to 2147483647 less this", "filter TestOperations"),
	}},
}

// The BGP kinds are complete: every field that their structs have is proven by a
// test that names it, or is listed with the reason why it does nothing. A new field fails
// here until it has a row; docs/fields.md is written from the rows (-update).
func TestEveryBGPFieldIsProven(t *testing.T) {
	tests := testSources(t)
	var page bytes.Buffer
	for _, k := range bgpFields {
		names := leaves(reflect.TypeOf(k.spec), "", k.kind)
		fmt.Fprintf(&page, "\n### %s\n\n| field | effect | proven by |\n|---|---|---|\n", k.kind)
		for _, name := range names {
			p, ok := k.proofs[name]
			switch {
			case !ok:
				t.Errorf("%s: %s has no row", k.kind, name)
			case (p.none == "") == (len(p.tests) == 0):
				t.Errorf("%s: %s has neither tests nor a reason, or both", k.kind, name)
			case p.none != "":
				fmt.Fprintf(&page, "| `%s` | **accepted and ignored**: %s | |\n", name, p.none)
			default:
				fmt.Fprintf(&page, "| `%s` | %s | %s |\n", name, p.effect, strings.Join(p.tests, ", "))
			}
			for _, test := range p.tests {
				source, ok := tests[test]
				if !ok {
					t.Errorf("%s: %s: there is no test %s", k.kind, name, test)
				} else if word := lastWord(name); !strings.HasPrefix(test, "bgp ") && !strings.Contains(strings.ToLower(source), strings.ToLower(word)) {
					t.Errorf("%s: %s: %s does not speak of %s", k.kind, name, test, word)
				}
			}
		}
		for name := range k.proofs {
			if !slices.Contains(names, name) {
				t.Errorf("%s: there is no field %s", k.kind, name)
			}
		}
	}
	compare(t, "docs/fields.md", page.String()+"\n")
}

// testSources is what each test says, by "package Test": its own text, and that
// of the functions, constants and variables of its package's tests that it names.
func testSources(t *testing.T) map[string]string {
	decls, uses := map[string]string{}, map[string][]string{} // by "package Name"
	for _, f := range files(t) {
		if !f.test {
			continue
		}
		pkg := strings.TrimPrefix(f.pkg, "internal/") + " "
		keep := func(name string, n ast.Node) {
			decls[pkg+name] = string(f.text[f.fset.Position(n.Pos()).Offset:f.fset.Position(n.End()).Offset])
			ast.Inspect(n, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok {
					uses[pkg+name] = append(uses[pkg+name], pkg+id.Name)
				}
				return true
			})
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					keep(d.Name.Name, d)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if v, ok := s.(*ast.ValueSpec); ok {
						for _, name := range v.Names {
							keep(name.Name, v)
						}
					}
				}
			}
		}
	}
	out := map[string]string{}
	for name, text := range decls {
		if _, test, _ := strings.Cut(name, " "); strings.HasPrefix(test, "Test") {
			for _, used := range uses[name] {
				text += "\n" + decls[used]
			}
			out[name] = text
		}
	}
	return out
}

// leaves are the paths of all fields of a struct that hold a value, in order.
func leaves(typ reflect.Type, at, kind string) (list []string) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		name, ft := at+tag, f.Type
		if kind == "Node" && at == "" && tag != "bgp" {
			continue // the rest of a Node is no matter of BGP
		}
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct {
			name, ft = name+"[]", ft.Elem()
		}
		scalar := ft.Kind() != reflect.Struct || ft.NumField() == 0 || ft.Field(0).Tag.Get("json") == ""
		if scalar || kind == "BGPFilter" {
			list = append(list, name)
			continue
		}
		list = append(list, leaves(ft, name+".", kind)...)
	}
	return list
}

// lastWord is what a test says that speaks of a field: that of the last part of
// its path which is not as general as value.
func lastWord(field string) string {
	parts := strings.Split(strings.ReplaceAll(field, "[]", ""), ".")
	for _, p := range slices.Backward(parts) {
		if !slices.Contains([]string{"name", "value", "values", "key", "prefix", "cidr", "min", "max"}, p) {
			return p
		}
	}
	return parts[len(parts)-1]
}

// compare holds the part of a page between its marks against what it is to be.
func compare(t *testing.T, page, want string) {
	t.Helper()
	const begin, end = "<!-- table -->\n", "<!-- end of table -->\n"
	name := filepath.Join(root, page)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(text), begin)
	have, tail, ok2 := strings.Cut(rest, end)
	switch {
	case !ok1 || !ok2:
		t.Fatalf("%s: the marks around the table are not there", page)
	case have == want:
	case *updatePages:
		if err := os.WriteFile(name, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s does not say what is tested: go test ./internal/rules -run %s -update writes it", page, t.Name())
	}
}
