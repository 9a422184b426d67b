// SPDX-License-Identifier: Apache-2.0

package fabriclab

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

var full = flag.Bool("fabric.full", false, "boot every variant")

// muslin is the program under test, built once from this tree.
var muslin string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "muslin-fabriclab")
		if err == nil {
			muslin, err = labtest.Build(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		return m.Run()
	}())
}

// variant is a fabric of 3 racks with 2 servers and 2 endpoints each.
type variant struct {
	name  string
	spec  string // fields beside those
	short bool   // also in the ordinary tests
}

var variants = []variant{
	{"rack L3", "model: as-per-rack", true},
	{"rack L2", "model: as-per-rack, spine: {kind: l2}", false},
	{"server L3", "model: as-per-server", false},
	{"server L2", "model: as-per-server, spine: {kind: l2}", false},
	{"default L3", "model: downward-default", false},
	{"default L2", "model: downward-default, spine: {kind: l2}", false},
	{"ethernet", "model: ethernet", true},
}

func design(t *testing.T, spec string) *fabric.Design {
	t.Helper()
	for _, field := range []string{"racks: {count: 3}", "servers: {perRack: 2}", "endpoints: {perServer: 2}"} {
		if name, _, _ := strings.Cut(field, ":"); !strings.Contains(spec, name+": {") {
			spec += ", " + field
		}
	}
	name := "t-" + strings.ToLower(rand.Text()[:10])
	doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: " + name + "}\nspec: {" + spec + ", families: [ipv4, ipv6]}"))
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	return doc.Fabric.Design()
}

// boot brings a design up, and down with the test, whatever became of it.
func boot(t *testing.T, g *fabric.Design) *Lab {
	t.Helper()
	labtest.Require(t)
	labtest.Programs(t, "frr", frrDir+"/bgpd", "/usr/bin/vtysh")
	start := time.Now()
	l, err := Up(t.Context(), g, Options{Binary: muslin, Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if found, err := Down(l.Name); err != nil || !found {
			t.Errorf("down: found %v, %v", found, err)
		}
		if names, err := left(l.Name); err != nil || len(names) > 0 {
			t.Errorf("left: %v, %v", names, err)
		}
		if _, err := os.Stat(l.dir("")); err == nil {
			t.Errorf("%s is left", l.dir(""))
		}
	})
	t.Logf("booted in %v", time.Since(start).Round(time.Millisecond))
	return l
}

// settled fails the test unless every table becomes what the simulation says.
func settled(t *testing.T, l *Lab) {
	t.Helper()
	c, err := l.Settle(context.Background(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range c.Differences {
		if i == 20 {
			t.Errorf("and %d more", len(c.Differences)-i)
			break
		}
		t.Error(d)
	}
	if c.Devices < 5 || c.Paths < 50 || c.Routes < 50 {
		t.Errorf("only %s", c.Summary())
	}
	t.Log(c.Summary())
}

// TestVariants: the fabrics boot; with real daemons every RIB and every FIB has what the
// simulation says, path by path; and every endpoint reaches every other in both families.
func TestVariants(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			if !v.short && !*full {
				t.Skip("make test-fabric boots it")
			}
			l := boot(t, design(t, v.spec))
			settled(t, l)
			r, err := l.Probe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n := len(l.Endpoints()); r.Probes != n*(n-1)*2 || n < 12 {
				t.Errorf("%d probes among %d endpoints", r.Probes, n)
			}
			for _, u := range r.Unreached {
				t.Errorf("%+v", u)
			}
		})
	}
}
