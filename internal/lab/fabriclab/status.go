// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/live"
	"github.com/muslin-net/muslin/internal/fabric/picture"
)

// Status is what is up of a lab.
type Status struct {
	Name    string         `json:"name"`
	Started time.Time      `json:"started"`
	Failed  []Failed       `json:"failed"`
	Devices []DeviceStatus `json:"devices"`
}

// DeviceStatus is what runs on a device.
type DeviceStatus struct {
	Name     string          `json:"name"`
	Role     fabric.Role     `json:"role"`
	Software fabric.Software `json:"software"`
	State    string          `json:"state"` // runs, its daemon is dead, or what of it failed
}

// dead is the state of a device whose daemon does not run.
const dead = "its daemon is dead"

// Status looks at every device.
func (l *Lab) Status() (*Status, error) {
	s := &Status{Name: l.Name, Started: l.Started, Failed: append([]Failed{}, l.Failed...)}
	running, err := l.daemons()
	if err != nil {
		return nil, err
	}
	for i := range l.Design.Devices {
		d := &l.Design.Devices[i]
		x := DeviceStatus{d.Name, d.Role, d.Software, "runs"}
		if _, ok := running[d.Name]; !ok {
			x.State = dead
		}
		for _, f := range l.Failed {
			if f.How != ByDaemon && slices.ContainsFunc(l.cut(f.What), func(c Cable) bool { return c.ends(d.Name) }) {
				x.State += "; down (" + string(f.How) + "): " + f.What
			}
		}
		s.Devices = append(s.Devices, x)
	}
	return s, nil
}

// Picture is the topology as it is now: what was made to fail, whose daemon is dead, and which devices have other
// tables than the simulation says, with what has failed.
func (l *Lab) Picture(ctx context.Context) (string, error) {
	s, err := l.Status()
	if err != nil {
		return "", err
	}
	marks := picture.Marks{Things: l.cutOff(), Means: "down, or not as simulated"}
	says := []string{"up for " + time.Since(s.Started).Round(time.Second).String()}
	asked := map[string]bool{}
	for _, d := range s.Devices {
		asked[d.Name] = !strings.HasPrefix(d.State, dead)
		if !asked[d.Name] {
			marks.Things[d.Name] = dead
			says = append(says, d.Name+": "+dead)
		}
	}
	for _, f := range s.Failed {
		if f.How != ByDaemon {
			says = append(says, fmt.Sprintf("%s is down (%s)", f.What, f.How))
		}
	}
	want, err := l.expect()
	if err != nil {
		return "", err
	}
	c, err := l.compare(ctx, want, asked)
	if err != nil {
		says, c = append(says, "not compared: "+err.Error()), &live.Comparison{}
	} else if len(c.Differences) == 0 {
		says = append(says, "tables are what the simulation says")
	}
	differ := map[string]int{}
	for _, d := range c.Differences {
		differ[d.Device]++
	}
	for _, name := range slices.Sorted(maps.Keys(differ)) {
		what := fabric.Amount(differ[name], "difference") + " from the simulation"
		marks.Things[name], says = what, append(says, name+": "+what)
	}
	marks.Says = strings.Join(says, "; ")
	return picture.Topology(l.now, marks), nil
}

// cutOff are the devices, links and ports that have failed, by the names that a picture has for them.
func (l *Lab) cutOff() map[string]string {
	things := map[string]string{}
	for _, f := range l.Failed {
		if f.How == ByDaemon {
			continue
		}
		what := fmt.Sprintf("down (%s)", f.How)
		things[f.What] = what
		for _, c := range l.cut(f.What) {
			switch s := l.x.Segment(c.Segment); s.Kind {
			case fabric.Link:
				on := l.x.On(c.Segment)
				things[on[0].Device.Name+"-"+on[1].Device.Name] = what
			default:
				things[c.Port.Space+"-"+c.Segment] = what
				things[c.Port.Space+"-"+s.Switch] = what
			}
		}
	}
	return things
}
