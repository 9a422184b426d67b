// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"strings"
	"testing"
)

// Groups of imports that rules speak of.
var (
	etcd    = []string{"go.etcd.io"}
	kernel  = []string{"github.com/vishvananda/netlink", "github.com/vishvananda/netns", "github.com/mdlayher/netlink", "github.com/google/nftables"}
	process = []string{"os/exec", "plugin"}
	system  = []string{"golang.org/x/sys", "syscall"}
)

// never: what a package does not import, not even by way of another of ours.
var never = []struct {
	pkgs    []string
	imports [][]string
	why     string
}{
	{
		[]string{"selector", "api/v3", "internal/prefixmap", "internal/policy", "internal/kubepolicy", "internal/ipam", "internal/guard", "internal/bfd", "internal/secret"},
		[][]string{etcd, kernel, process, system, {"os", "net/http", "log"}},
		"it decides and never touches the world, so that the lab, the simulator and the tests run the very code that the agent runs",
	},
	{
		[]string{"internal/bgp", "internal/filter"},
		[][]string{etcd, kernel, process},
		"the engine knows peers and prefixes only: thousands of its peers run in one test, and it never waits for the kernel or the datastore",
	},
	{
		[]string{"internal/fabric"},
		[][]string{etcd, kernel, process, {"net/http"}},
		"a design is computed from its file and nothing else: the same file gives the same design, wherever that is",
	},
}

// only: what just these packages import themselves.
var only = []struct {
	imports []string
	pkgs    []string
	why     string
}{
	{etcd, []string{"internal/store"},
		"one package knows etcd; the rest sees objects and revisions"},
	{[]string{"google.golang.org/grpc", "go.uber.org/zap"}, []string{"internal/store"},
		"they are etcd's, and stay with it; our own logger is log/slog"},
	{kernel, []string{"internal/acl", "internal/route", "internal/endpoint", "internal/lab"},
		"kernel objects have one owner each, who holds desired, reads actual and repairs"},
	{[]string{"github.com/google/nftables"}, []string{"internal/acl", "internal/lab"},
		"ACLs have one owner"},
	{[]string{"github.com/osrg/gobgp"}, []string{"internal/bgp"},
		"the codec's types stop at the engine's border"},
	{[]string{"github.com/spf13/cobra", "github.com/spf13/pflag"}, []string{"internal/cli", "cmd/muslin"},
		"flags and usage text belong to the command line"},
	{[]string{module + "/internal/cli"}, []string{"cmd/muslin"},
		"the command line is the outermost edge; nothing inside depends on it"},
	{[]string{module + "/internal/lab"}, []string{"internal/demo", "internal/bench", "internal/cli", "cmd/muslin"},
		"the lab runs the product, not the other way round"},
}

// onlyLinux is what builds for Linux alone.
var onlyLinux = slices.Concat(kernel, []string{module + "/internal/lab", module + "/internal/demo", module + "/internal/bench/proc", module + "/internal/bench/datastore"})

// TestOnlyLinuxSaysSo: what speaks to the Linux kernel is for Linux by its name or
// its first line, so that everything else builds for another system, too (make lint
// builds it). What a port has to write is what is left.
func TestOnlyLinuxSaysSo(t *testing.T) {
	for _, f := range files(t) {
		if f.test || strings.HasSuffix(f.name, "_linux.go") || strings.Contains(string(f.text), "\n//go:build linux\n") {
			continue
		}
		for _, imp := range f.imports() {
			if within(imp, onlyLinux...) {
				t.Errorf("%s imports %s, which is for Linux: say //go:build linux, or name it *_linux.go", f.name, imp)
			}
		}
	}
}

// allowed: packages that import nothing from outside but this.
var allowed = []struct {
	pkg     string
	imports []string
	why     string
}{
	{"selector", nil, "other programs import it: the standard library is all it brings along"},
	{"api/v3", []string{"sigs.k8s.io/yaml", "go.yaml.in/yaml/v2", module + "/selector"}, "other programs import it: it brings YAML and selectors along, no more"},
	{"internal/bfd", nil, "a protocol of 24 octets needs nothing that the standard library has not"},
	{"internal/secret", nil, "who holds a secret needs nothing else"},
	{"internal/bgp", []string{"github.com/osrg/gobgp/v4/pkg/packet/bgp", "golang.org/x/sys", "golang.org/x/sync", module + "/internal/prefixmap", module + "/internal/secret"},
		"of gobgp we use the codec, which is stdlib-only; its server, its tables and its configuration stay out"},
}

// ranks orders the packages from the middle to the edge. A package imports
// only those of a lower rank: imports point from the edge to the middle.
var ranks = [][]string{
	{"selector", "internal/prefixmap", "internal/secret"},
	{"api/v3"},
	{"internal/kubepolicy"},
	{"internal/policy", "internal/ipam", "internal/bgp", "internal/guard", "internal/bfd", "internal/lock", "internal/unread"},
	{"internal/filter", "internal/fabric", "internal/store", "internal/acl", "internal/route", "internal/endpoint", "internal/bfdd", "internal/keeper", "internal/neighbour"},
	{"internal/node/api", "internal/dataplane"},
	{"internal/node"},
	{"internal/lab"},
	{"internal/demo", "internal/e2e", "internal/bench"},
	{"internal/cli"},
	{"cmd/muslin"},
}

func rank(pkg string) int {
	// The longest match wins: internal/node/api is not internal/node.
	best, length := -1, 0
	for i, r := range ranks {
		for _, p := range r {
			if within(pkg, p) && len(p) > length {
				best, length = i, len(p)
			}
		}
	}
	return best
}

// direct returns the imports of each package's product code.
func direct(t *testing.T) map[string]map[string]string {
	out := map[string]map[string]string{} // package → import → file
	for _, f := range files(t) {
		if f.test {
			continue
		}
		if out[f.pkg] == nil {
			out[f.pkg] = map[string]string{}
		}
		for _, i := range f.imports() {
			out[f.pkg][i] = f.name
		}
	}
	return out
}

func TestNeverImports(t *testing.T) {
	imports := direct(t)
	for _, r := range never {
		banned := slices.Concat(r.imports...)
		for _, p := range r.pkgs {
			for _, pkg := range below(imports, p) {
				reached(imports, pkg, []string{pkg}, map[string]bool{}, func(imp, file string, way []string) {
					if slices.Contains(banned, imp) || within(imp, banned...) && !standard(imp) {
						t.Errorf("%s imports %s (%s): %s does not: %s", file, imp, strings.Join(way, " → "), p, r.why)
					}
				})
			}
		}
	}
}

// reached visits every import of pkg and of our packages that it imports.
func reached(imports map[string]map[string]string, pkg string, way []string, seen map[string]bool, visit func(imp, file string, way []string)) {
	if seen[pkg] {
		return
	}
	seen[pkg] = true
	for imp, file := range imports[pkg] {
		visit(imp, file, way)
		if next, ok := ours(imp); ok {
			reached(imports, next, append(slices.Clone(way), next), seen, visit)
		}
	}
}

func TestOnlyTheseImport(t *testing.T) {
	for pkg, imps := range direct(t) {
		for imp, file := range imps {
			for _, r := range only {
				if within(imp, r.imports...) && !within(pkg, r.pkgs...) && !within(module+"/"+pkg, r.imports...) {
					t.Errorf("%s imports %s: only %s may: %s", file, imp, strings.Join(r.pkgs, ", "), r.why)
				}
			}
		}
	}
}

func TestAllowedImports(t *testing.T) {
	imports := direct(t)
	for _, r := range allowed {
		for _, pkg := range below(imports, r.pkg) {
			for imp, file := range imports[pkg] {
				own := within(imp, module+"/"+r.pkg)
				if !standard(imp) && !own && !within(imp, r.imports...) {
					t.Errorf("%s imports %s: %s", file, imp, r.why)
				}
			}
		}
	}
}

func TestImportsPointToTheMiddle(t *testing.T) {
	for pkg, imps := range direct(t) {
		if pkg == "internal/rules" {
			continue
		}
		from := rank(pkg)
		if from < 0 {
			t.Errorf("%s has no rank: add it to ranks in imports_test.go, and to the package map of ARCHITECTURE.md", pkg)
			continue
		}
		for imp, file := range imps {
			to, ok := ours(imp)
			if !ok || sameTree(pkg, to) {
				continue
			}
			if rank(to) >= from {
				t.Errorf("%s imports %s: imports point from the edge to the middle, and %s is not nearer to the middle than %s",
					file, to, to, pkg)
			}
		}
	}
}

// sameTree tells whether both folders belong to the same ranked package.
func sameTree(a, b string) bool {
	for _, r := range ranks {
		for _, p := range r {
			if within(a, p) && within(b, p) && rank(a) == rank(b) {
				return true
			}
		}
	}
	return false
}

// below lists the packages at and under a folder.
func below(imports map[string]map[string]string, folder string) []string {
	var out []string
	for pkg := range imports {
		if within(pkg, folder) {
			out = append(out, pkg)
		}
	}
	slices.Sort(out)
	return out
}

// standard tells the standard library by its missing dot.
func standard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".")
}
