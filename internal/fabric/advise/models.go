// SPDX-License-Identifier: Apache-2.0

package advise

import (
	"fmt"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/check"
)

// Usual is what a switch is taken to hold of which nothing is said: what has long been
// the limit of the industry.
const Usual = 128_000

// Fill is a table against what it has to hold.
type Fill struct {
	Device  string       `json:"device"`
	Used    int          `json:"used"`
	Grown   int          `json:"grown"`
	Holds   int          `json:"holds"`
	Table   fabric.Table `json:"table,omitempty"`
	Assumed bool         `json:"assumed,omitempty"` // Holds is Usual
}

// percent is how full it is.
func (f *Fill) percent() int { return 100 * f.Used / max(1, f.Holds) }

// Fits tells whether all of it fits, and with growth with the room that the rules want.
func (f *Fill) Fits() bool {
	return f == nil || f.Used <= f.Holds && (f.Grown <= f.Used || 100*f.Grown < check.FillGrown*f.Holds)
}

func (f *Fill) String() string {
	text := fmt.Sprintf("%s of %s entries (%d %%)", fabric.Number(f.Used), fabric.Number(f.Holds), f.percent())
	if f.Grown > f.Used {
		text += fmt.Sprintf(", %s with growth", fabric.Number(f.Grown))
	}
	return text
}

// Option is the data centre by one model.
type Option struct {
	Model   fabric.Model     `json:"model"`
	Spine   fabric.SpineKind `json:"spine"`
	ToR     *Fill            `json:"tor,omitempty"`     // nil if ToRs do not route
	Top     *Fill            `json:"top,omitempty"`     // of the spine; nil if it does not route
	Paths   int              `json:"paths"`             // of the device that has most
	Memory  fabric.Bytes     `json:"memory"`            // of its daemon
	Peers   int              `json:"peers"`             // of the device that has most
	Updates int              `json:"updates"`           // for one endpoint that comes or goes
	Errors  []string         `json:"errors"`            // findings that must be mended
	Fits    bool             `json:"fits"`              // tables, with growth
	Problem string           `json:"problem,omitempty"` // why it cannot be designed
	Reason  string           `json:"reason"`            // for or against it

	design *fabric.Design
}

// Advice is every model, and which to take.
type Advice struct {
	Pick    *Option   `json:"pick"`
	Because string    `json:"because"`
	Options []*Option `json:"options"` // the first is Pick
}

// Models designs the data centre by every model, and picks one:
//
//   - AS per rack, if the tables of ToR and spine hold every endpoint, growth included;
//   - Downward Default, if only those of the ToR do not;
//   - an Ethernet fabric, if neither do, or if simple is set;
//   - AS per server on request, which takes the tables that AS per rack takes.
func Models(f *fabric.Fabric, simple bool) *Advice {
	kind := f.Spec.Spine.Kind
	if f.Spec.Model == fabric.Ethernet {
		kind = fabric.L3
	}
	other := fabric.L2
	if kind == fabric.L2 {
		other = fabric.L3
	}
	a := &Advice{}
	for _, k := range []fabric.SpineKind{kind, other} {
		for _, m := range []fabric.Model{fabric.ASPerRack, fabric.DownwardDefault, fabric.ASPerServer} {
			a.Options = append(a.Options, option(f, m, k))
		}
	}
	ethernet := option(f, fabric.Ethernet, fabric.L2)
	a.Options = slices.Insert(a.Options, 2, ethernet)
	rack, downward := a.Options[0], a.Options[1]
	switch {
	case simple:
		a.Pick, a.Because = ethernet, "a simple Ethernet is wanted: its switches know servers only, and no endpoint"
	case rack.Fits:
		a.Pick, a.Because = rack, "the tables of ToR and spine hold every endpoint, growth included"
		if rack.Top == nil {
			a.Because = "the tables of the ToRs hold every endpoint, growth included"
		}
	case rack.Problem == "" && rack.Top.Fits() && downward.Fits:
		a.Pick, a.Because = downward, fmt.Sprintf("the table of the ToR is too small for every endpoint (%s), that of the spine is not (%s)", rack.ToR, rack.Top)
	default:
		a.Pick, a.Because = ethernet, "no table of the switches is large enough for routes to all endpoints"
		if t := rack.Top; t != nil && !t.Fits() {
			a.Because += fmt.Sprintf(": that of the spine, %s", t)
		} else if rack.ToR != nil {
			a.Because += fmt.Sprintf(": that of the ToR, %s, and no router above it takes them off", rack.ToR)
		}
	}
	a.reasons()
	rank := map[*Option]int{a.Pick: -1}
	slices.SortStableFunc(a.Options, func(x, y *Option) int {
		if d := rank[x] - rank[y]; d != 0 {
			return d
		}
		return bad(x) - bad(y)
	})
	return a
}

// bad orders what was not picked: what fits goes first.
func bad(o *Option) int {
	switch {
	case o.Problem != "":
		return 2
	case !o.Fits:
		return 1
	}
	return 0
}

// reasons says for each option what is for or against it.
func (a *Advice) reasons() {
	for _, o := range a.Options {
		switch {
		case o.Problem != "":
			o.Reason = o.Problem
		case o == a.Pick:
			o.Reason = a.Because
		case !o.ToR.Fits() && o.Model == fabric.DownwardDefault && o.Spine == fabric.L2:
			o.Reason = "no router is above the ToRs: they hold every route"
		case !o.ToR.Fits():
			o.Reason = "the ToR's table is too small"
		case !o.Top.Fits():
			o.Reason = "the spine's table is too small"
		case o.Model == fabric.ASPerServer:
			o.Reason = "on request: tables as with AS per rack, and an AS number for each server"
		case o.Model == fabric.Ethernet:
			o.Reason = "fits in any case; servers have a port on each plane"
		case o.Model == fabric.DownwardDefault:
			o.Reason = "fits, and is not needed: what no endpoint has travels to the spine"
		default:
			o.Reason = "fits, too"
		}
	}
}

// option designs the data centre by one model.
func option(f *fabric.Fabric, m fabric.Model, spine fabric.SpineKind) *Option {
	o := &Option{Model: m, Spine: spine, Errors: []string{}}
	v, err := f.Variant(func(s *fabric.Spec) { s.Become(m, spine) })
	if err != nil {
		o.Problem = err.Error()
		return o
	}
	o.design = v.Design()
	list, updates, _ := o.design.Index().Entries()
	o.Updates = updates
	for i := range list {
		e := &list[i]
		o.Peers = max(o.Peers, e.Peers)
		if e.Paths > o.Paths {
			o.Paths, o.Memory = e.Paths, e.Memory
		}
		switch e.Role {
		case fabric.RoleToR:
			o.ToR = fuller(o.ToR, e)
		case fabric.RoleSpine:
			o.Top = fuller(o.Top, e)
		}
	}
	o.Fits = o.ToR.Fits() && o.Top.Fits()
	return o
}

// Check holds every option against the rules, and simulates it under every single failure.
func (a *Advice) Check() {
	for _, o := range a.Options {
		if o.design == nil {
			continue
		}
		for _, x := range check.Design(o.design) {
			if x.Severity == check.Error || x.Severity == check.Advanced {
				o.Errors = append(o.Errors, x.ID+" "+x.Message)
			}
		}
	}
}

// fuller is the fuller one of two tables.
func fuller(f *Fill, e *fabric.Entries) *Fill {
	x := &Fill{Device: e.Device, Used: e.Used, Grown: e.Grown, Holds: int(e.Holds), Table: e.Table}
	if x.Holds == 0 {
		x.Holds, x.Assumed = Usual, true
	}
	if f == nil || max(x.Used, x.Grown)*f.Holds > max(f.Used, f.Grown)*x.Holds {
		return x
	}
	return f
}
