// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"slices"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
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
			x.State = "its daemon is dead"
		}
		for _, f := range l.Failed {
			if f.How == ByDaemon {
				continue
			}
			if slices.ContainsFunc(l.cut(f.What), func(c Cable) bool { return c.Port.Space == d.Name }) {
				x.State += "; down (" + string(f.How) + "): " + f.What
			}
		}
		s.Devices = append(s.Devices, x)
	}
	return s, nil
}
