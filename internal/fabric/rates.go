// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Rates is what links carry, and what they have to. Without it nothing is known of either.
type Rates struct {
	Server Rate `json:"server,omitempty"` // of each port of a server
	Uplink Rate `json:"uplink,omitempty"` // of each port of a ToR towards a spine or plane
	// Load is what a server sends out of its rack at most, or receives from there, in the busiest hour.
	Load Rate `json:"load,omitempty"`
}

// checkRates refuses rates that nothing is asked of.
func (f *Fabric) checkRates(e *faults) {
	r := &f.Spec.Rates
	switch ports := r.Server != 0 || r.Uplink != 0; {
	case r.Load != 0 && !ports:
		e.add("spec.rates", "say the rate of ports, server or uplink, too", "a load of %s, and nothing that carries it", r.Load)
	case r.Load == 0 && ports:
		e.add("spec.rates", "say what a server sends out of its rack at most, such as load: 2G", "rates of ports without a load")
	}
}

// rates puts the rates into a design: of a segment with servers on it, of what is above a ToR, and the servers' load.
func (b *builder) rates() {
	r := &b.f.Spec.Rates
	if r.Load == 0 {
		return
	}
	for i := range b.out.Devices {
		if d := &b.out.Devices[i]; d.Role == RoleServer {
			d.Load = r.Load
		}
	}
	x := b.out.Index()
	for i := range b.out.Segments {
		s := &b.out.Segments[i]
		on := map[Role]bool{}
		for _, a := range x.On(s.Name) {
			on[a.Device.Role] = true
		}
		switch {
		case on[RoleServer]:
			s.Rate = r.Server
		case on[RoleToR] && (on[RoleSpine] || s.Kind == Plane):
			s.Rate = r.Uplink
		}
	}
}

// Rate is bits in a second, as vendors write it: 100G is 10^11. In files it is a text.
type Rate int64

var rateUnits = []struct {
	name string
	bits int64
}{{"T", 1e12}, {"G", 1e9}, {"M", 1e6}}

// String is as in a file, rounded up to three digits behind the point.
func (r Rate) String() string {
	for _, u := range rateUnits {
		if int64(r) >= u.bits || u.bits == 1e6 {
			return fmt.Sprintf("%g%s", float64((int64(r)*1000+u.bits-1)/u.bits)/1000, u.name)
		}
	}
	return "0"
}

// MarshalText is String.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads 25G, 400M or 1T.
func (r *Rate) UnmarshalText(b []byte) error {
	for _, u := range rateUnits {
		number, ok := strings.CutSuffix(string(b), u.name)
		if v, err := strconv.ParseFloat(number, 64); ok && err == nil && v*float64(u.bits) >= 1e6 && v*float64(u.bits) <= 1e14 {
			*r = Rate(math.Round(v * float64(u.bits)))
			return nil
		}
	}
	return fmt.Errorf("want bits in a second such as 25G or 400M")
}
