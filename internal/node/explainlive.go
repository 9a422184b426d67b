// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/policy"
)

// live sends the packet that a walk is about, as if its sender had, and follows
// it through the kernel. It arrives if nothing is in its way: what its receiver
// answers goes to the sender, which expects nothing.
func (d *Daemon) live(ctx context.Context, w *world, k *walk) (*api.ExplainLive, error) {
	if !k.here {
		return nil, fmt.Errorf("neither %s nor %s is on this server: ask there for --live", k.flow.Src, k.flow.Dst)
	}
	d.probing.Lock()
	defer d.probing.Unlock()
	ledger, err := d.ledger(ctx)
	if err != nil {
		return nil, err
	}
	id := uint16(rand.Uint32())
	packet := acl.Compose(k.flow.Packet, id)
	send := func() error { return endpoint.Emit(packet, k.flow.Dst.AsSlice()) }
	if k.in != "" {
		send = func() error { return endpoint.Inject(k.in, w.macOf(k.flow.From), packet) }
	}
	traced, err := ledger.Trace(acl.Probe{Packet: k.flow.Packet, In: k.in, ID: id}, send)
	if err != nil {
		return nil, fmt.Errorf("--live: %w", err)
	}
	out := &api.ExplainLive{Verdict: "lost", Steps: []api.ExplainStep{}}
	switch {
	case traced.Passed:
		out.Verdict = "passed"
		if link, err := net.InterfaceByIndex(traced.Out); err == nil {
			out.Device = link.Name
		}
	case traced.Dropped != nil:
		out.Verdict = "dropped"
	}
	for _, s := range traced.Steps {
		if shown, ok := liveStep(s); ok {
			out.Steps = append(out.Steps, shown)
		}
	}
	if err := k.agrees(out); err != nil {
		out.Differs = err.Error()
	}
	return out, nil
}

// macOf is the address that an endpoint's frames have as their source, nil if
// the model does not say.
func (w *world) macOf(id policy.EndpointID) net.HardwareAddr {
	if e := w.Endpoints[id]; e != nil {
		mac, _ := net.ParseMAC(e.Spec.MAC)
		return mac
	}
	return nil
}

// liveStep is a rule that decided for the packet, and whatever dropped it; the
// others only led there.
func liveStep(s acl.Seen) (api.ExplainStep, bool) {
	allowed := s.Verdict == "accept" || s.Verdict == "goto "+acl.Acceptor(s.Direction)
	decided := allowed || s.Verdict == "drop" || s.Verdict == "goto "+acl.ChainDenied
	switch {
	case s.Policy != nil && decided:
		ref := policy.PolicyRef{Key: s.Policy.Key, Name: s.Policy.Name}
		out := step(directionWord(s.Direction), allowed, ref.String(), "%s, %s rule %s", ref, directionWord(s.Direction), s.Rules)
		if n, err := strconv.Atoi(s.Rules); err == nil {
			out.Rule = n
		}
		out.Rules = s.Rules
		return out, true
	case s.End != "" && decided:
		return step(directionWord(s.Direction), allowed, s.End, "%s", s.End), true
	case s.Table == acl.TableName && s.Chain == acl.ChainDenied:
		return api.ExplainStep{}, false
	case s.Verdict == "drop":
		where := "table " + s.Table
		if strings.HasPrefix(s.Chain, "antispoof") {
			where = "anti-spoof"
		} else if s.Table == acl.TableName {
			where = s.Chain
		}
		return step(where, false, s.Comment, "chain %s: %s", s.Chain, s.Comment), true
	}
	return api.ExplainStep{}, false
}

// agrees compares what the model says with what happened: whether the packet
// passed, and who decided at each end that is here.
func (k *walk) agrees(live *api.ExplainLive) error {
	var denied *api.ExplainStep           // the first in the model, of what is asked on this host
	at := map[string][]*api.ExplainStep{} // several, if host endpoints are asked, too
	for i := range live.Steps {
		at[live.Steps[i].Where] = append(at[live.Steps[i].Where], &live.Steps[i])
	}
	for i := range k.path.Steps {
		s := &k.path.Steps[i]
		switch s.Where {
		case "anti-spoof", "egress":
			if !k.fromHere {
				continue
			}
		case "ingress":
			if !k.toHere {
				continue
			}
		}
		if s.Verdict == "deny" {
			denied = s
			break
		}
	}
	passed := live.Verdict == "passed"
	switch {
	case denied != nil && passed:
		return fmt.Errorf("it passed, and the model has it denied: %s: %s", denied.Where, denied.Text)
	case denied == nil && !passed:
		return errors.New("it did not pass, and the model has nothing against it")
	}
	for _, dec := range []*policy.Decision{k.trace.Egress, k.trace.Ingress} {
		if dec == nil || dec.Direction == policy.Egress && !k.fromHere || dec.Direction == policy.Ingress && !k.toHere {
			continue
		}
		where := directionWord(dec.Direction)
		same := slices.ContainsFunc(at[where], func(s *api.ExplainStep) bool { return sameDecision(dec, s) })
		switch {
		case same:
		case denied != nil && denied.Where != where, denied != nil && len(at[where]) == 0:
			return nil // it did not get so far, or was closed out before
		case k.deniesToo(live):
			return nil // the kernel came to another of the denials first
		case len(at[where]) == 0:
			return fmt.Errorf("no %s rule decided about it; the model: %s", where, dec)
		default:
			return fmt.Errorf("%s was decided by %s; the model: %s", where, at[where][len(at[where])-1].Text, dec)
		}
	}
	return nil
}

// deniesToo tells whether what denied the packet in the kernel denies it in the
// model as well: a host endpoint's policy may be asked before the workload's.
func (k *walk) deniesToo(live *api.ExplainLive) bool {
	return slices.ContainsFunc(live.Steps, func(l api.ExplainStep) bool {
		return l.Verdict == "deny" && slices.ContainsFunc(k.path.Steps, func(m api.ExplainStep) bool {
			object, _, _ := strings.Cut(m.Object, " (") // what selects the endpoint at the end of a tier
			return m.Verdict == "deny" && m.Where == "host-"+l.Where && object == l.Object && (l.Rules == "" || spans(l.Rules, m.Rule))
		})
	})
}

func sameDecision(dec *policy.Decision, s *api.ExplainStep) bool {
	if dec.Allowed != (s.Verdict == "allow") {
		return false
	}
	switch dec.Reason {
	case policy.ByPolicy, policy.ByProfile:
		return s.Object == dec.Policy.String() && spans(s.Rules, dec.Rule)
	case policy.BadPolicy, policy.MissingProfile:
		return s.Object == dec.Policy.String()
	case policy.EndOfTier:
		return s.Object == "end of tier "+dec.Tier
	case policy.NoMatch, policy.Unselected:
		return s.Object == acl.NoProfile
	}
	return true
}

// spans tells whether a number is within a list such as 0-2,7. A packet that
// several rules of one run match is counted by the first set of the run, whose rules
// stand before and behind the first that matches.
func spans(list string, n int) bool {
	first, _, _ := strings.Cut(list, ",")
	first, _, _ = strings.Cut(first, "-")
	last := list[strings.LastIndexAny(list, ",-")+1:]
	lo, err1 := strconv.Atoi(first)
	hi, err2 := strconv.Atoi(last)
	return err1 == nil && err2 == nil && lo <= n && n <= hi
}
