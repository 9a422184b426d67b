// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bench/proc"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/store"
)

const (
	limit = 10 * time.Second // for anything that should take milliseconds
	// A flow is closed when for so long none of so many packets has arrived.
	quiet        = 20 * time.Millisecond
	quietPackets = 50
)

// result is what one scene has shown.
type result struct {
	Scene scene           `json:"scene"`
	Allow [families]spell `json:"allow"`
	Deny  [families]spell `json:"deny"`
	Known [families]spell `json:"endpointOfKnownKind"`
	New   [families]spell `json:"endpointOfNewKind"`
	Put   spell           `json:"put"`
	// From the datastore's answer, which comes when the change is on its disk,
	// to the later family's packet: what is left to the agent.
	AllowOwn   spell           `json:"allowAfterPut"`
	KnownOwn   spell           `json:"endpointOfKnownKindAfterPut"`
	NewOwn     spell           `json:"endpointOfNewKindAfterPut"`
	Empty      []time.Duration `json:"coldStartEmptyKernel"`
	Programmed []time.Duration `json:"coldStartProgrammed"`
	Started    proc.Memory     `json:"memoryAfterStart"`
	Busy       proc.Memory     `json:"memoryWhileChanging"` // right after the last change
	Worked     proc.Memory     `json:"memoryAfterRounds"`
	Idle       *proc.Memory    `json:"memoryIdle,omitempty"` // of the first scene only

	// Per change of the policy.
	Commits  float64       `json:"commitsPerPolicyChange"`
	Messages float64       `json:"messagesPerPolicyChange"`
	CPU      time.Duration `json:"cpuPerPolicyChange"`
	// Of starts, and of those with everything programmed.
	EmptyCPU      []time.Duration `json:"cpuOfStartEmptyKernel"`
	ProgrammedCPU []time.Duration `json:"cpuOfStartProgrammed"`
	WarmCommits   int             `json:"commitsOfWarmStart"`
	Interval      time.Duration   `json:"interval"` // between two packets
}

// spell is the distribution of one kind of event.
type spell struct {
	Rounds int           `json:"rounds"`
	Median time.Duration `json:"median"`
	P99    time.Duration `json:"p99"`
	Max    time.Duration `json:"max"`
}

func spellOf(s proc.Samples) spell {
	return spell{len(s), s.Quantile(.5), s.Quantile(.99), s.Quantile(1)}
}

func spells(s [families]proc.Samples) (out [families]spell) {
	for i := range s {
		out[i] = spellOf(s[i])
	}
	return out
}

// start starts the agent and returns how long it took from exec to live, and
// how much CPU.
func (r *rig) start(ctx context.Context) (took, cpu time.Duration, err error) {
	began := time.Now()
	if err := r.agent.Start(); err != nil {
		return 0, 0, err
	}
	end := began.Add(60 * time.Second)
	for time.Now().Before(end) && ctx.Err() == nil {
		s, aerr := r.agent.API().Status(ctx, time.Until(end))
		if err = aerr; err == nil && s.Live {
			took = time.Since(began)
			cpu, err = proc.CPU(r.agent.Process().Pid())
			return took, cpu, err
		}
		select {
		case <-r.agent.Process().Done():
			return 0, 0, fmt.Errorf("the agent ended: %v\n%s", r.agent.Process().Wait(), r.agent.Log())
		case <-time.After(time.Millisecond):
		}
	}
	return 0, 0, errors.Join(fmt.Errorf("the agent is not live after %v\n%s", time.Since(began), r.agent.Log()), err, ctx.Err())
}

// teardown takes out of the kernel what the stopped agent left there.
func (r *rig) teardown(o options) error {
	cmd := exec.Command(o.binary, "teardown", "--run-dir", r.agent.Dir, "--state-dir", r.agent.StateDir())
	cmd.Env, cmd.Stderr = lab.CleanEnv(), os.Stderr
	p, err := r.agent.Namespace.Start(cmd)
	if err != nil {
		return err
	}
	return p.Wait()
}

// settle waits until the agent has every route.
func (r *rig) settle(ctx context.Context, s scene) error {
	want := 2*s.Local + len(blocks(0)) + s.nodes()*len(blocks(1))
	end := time.Now().Add(30 * time.Second)
	for {
		st, err := r.agent.API().Status(ctx, 0)
		if err != nil {
			return err
		}
		if len(st.Problems) > 0 {
			return fmt.Errorf("the agent reports a problem: %+v", st.Problems[0])
		}
		if st.Counts["routes"] >= want && len(st.Pending) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the agent has %d routes, want %d; %d endpoints are pending", st.Counts["routes"], want, len(st.Pending))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// starts measures cold starts, with an empty kernel and with everything
// programmed. The agent runs afterwards.
func (r *rig) starts(ctx context.Context, o options, s scene, out *result) error {
	if r.agent.Running() {
		if err := r.agent.Stop(limit); err != nil {
			return err
		}
	}
	for range o.starts {
		if err := r.teardown(o); err != nil {
			return err
		}
		took, cpu, err := r.start(ctx)
		if err != nil {
			return err
		}
		out.Empty, out.EmptyCPU = append(out.Empty, took), append(out.EmptyCPU, cpu)
		if err := r.agent.Stop(limit); err != nil {
			return err
		}
	}
	before, err := generation(r.agent.Namespace)
	if err != nil {
		return err
	}
	for range o.starts {
		if r.agent.Running() {
			if err := r.agent.Stop(limit); err != nil {
				return err
			}
		}
		took, cpu, err := r.start(ctx)
		if err != nil {
			return err
		}
		out.Programmed, out.ProgrammedCPU = append(out.Programmed, took), append(out.ProgrammedCPU, cpu)
	}
	after, err := generation(r.agent.Namespace)
	if err != nil {
		return err
	}
	out.WarmCommits = int(after - before)
	if err := r.settle(ctx, s); err != nil {
		return err
	}
	time.Sleep(o.rest) // what a start leaves behind is given back after a while
	out.Started, err = proc.ReadMemory(r.agent.Process().Pid())
	return err
}

// flow is a sender and the receiver it aims at.
func (r *rig) open(o options, to *receiver, host int) (*sender, error) {
	s, err := startSender(r.remote.Namespace, addresses(1, 1), ports(addresses(0, host), openPort), o.interval)
	if err != nil {
		to.close()
	}
	return s, err
}

// write puts an object and returns the times just before, and of the answer.
func (r *rig) write(ctx context.Context, object v3.Resource, puts *proc.Samples) (began, done time.Time, err error) {
	op := put(object)
	began = time.Now()
	_, err = r.client.Put(ctx, op.Key, op.Value)
	done = time.Now()
	*puts = append(*puts, done.Sub(began))
	return began, done, err
}

// after is how long after done the last of the packets came. The change may be in force before
// the writer has its answer.
func after(done time.Time, first [families]time.Time) time.Duration {
	last := slices.MaxFunc(first[:], time.Time.Compare)
	return max(last.Sub(done), 0)
}

// policyChanges opens and closes a flow by writing one policy, again and again.
// Nothing answers the packets, so that each of them is judged anew. Each round
// has a flow of its own: one that was cut because policy denied it goes on when
// the established flows are reviewed next, which is not what is measured here.
func (r *rig) policyChanges(ctx context.Context, o options, s scene, rounds int, out *result) error {
	to, err := startReceiver(r.target, openPort)
	if err != nil {
		return err
	}
	defer to.close()
	from, err := r.open(o, to, 1)
	if err != nil {
		return err
	}
	defer func() { from.close() }()
	count, err := r.count(ctx)
	if err != nil {
		return err
	}
	var allow, deny [families]proc.Samples
	var puts, own proc.Samples
	if _, err := to.silent(ctx, from, limit); err != nil {
		return fmt.Errorf("before the first change: %w", err)
	}
	for i := range rounds {
		from.close()
		next, err := r.open(o, to, 1)
		if err != nil {
			return err
		}
		from = next
		to.arm()
		pause()
		began, done, err := r.write(ctx, s.policy(0, openPort), &puts)
		if err != nil {
			return err
		}
		first, err := to.arrived(ctx, limit)
		if err != nil {
			return fmt.Errorf("round %d: after the policy was opened: %w", i, err)
		}
		for f := range first {
			took := first[f].Sub(began)
			if took < 0 {
				return fmt.Errorf("round %d: %s arrived %v before the policy was opened", i, familyName[f], -took)
			}
			allow[f] = append(allow[f], took)
		}
		own = append(own, after(done, first))
		pause()
		if began, _, err = r.write(ctx, s.policy(0, closedPort), &puts); err != nil {
			return err
		}
		last, err := to.silent(ctx, from, limit)
		if err != nil {
			return fmt.Errorf("round %d: after the policy was closed: %w", i, err)
		}
		for f := range last {
			deny[f] = append(deny[f], max(last[f].Sub(began), 0))
		}
	}
	if err := count.per(ctx, 2*rounds, out); err != nil {
		return err
	}
	out.Allow, out.Deny, out.Put, out.Interval = spells(allow), spells(deny), spellOf(puts), from.interval()
	out.AllowOwn = spellOf(own)
	return nil
}

// pause spreads the writes, so that they do not fall into step with anything.
func pause() { time.Sleep(2*time.Millisecond + rand.N(4*time.Millisecond)) }

// newEndpoints adds an endpoint whose cable is there, and removes it, again
// and again: one of a kind that the node has, then one of a kind that is new
// to it, whose policies and sets come along.
func (r *rig) newEndpoints(ctx context.Context, o options, s scene, rounds int, out *result) error {
	// The policies of both kinds let the flow through.
	kinds := [2]int{0, localApps}
	var ops []store.Op
	for _, app := range kinds {
		ops = append(ops, put(s.policy(app%s.Policies, openPort)))
	}
	if err := write(ctx, r.client.Client, ops); err != nil {
		return err
	}
	to, err := startReceiver(r.fresh, openPort)
	if err != nil {
		return err
	}
	defer to.close()
	from, err := r.open(o, to, s.Local+1)
	if err != nil {
		return err
	}
	defer from.close()
	var took [2][families]proc.Samples
	var own [2]proc.Samples
	var puts proc.Samples
	for i := range len(kinds) * rounds {
		kind := i % len(kinds)
		host := s.Local + 1 + i%(255-s.Local)
		if err := r.plug(r.fresh, host, "eth0"); err != nil {
			return err
		}
		from.aim(ports(addresses(0, host), openPort))
		to.arm()
		if _, err := to.silent(ctx, from, limit); err != nil {
			return err
		}
		pause()
		w := endpoint(0, host, kinds[kind], localInterface(host), localMAC(host))
		began, done, err := r.write(ctx, w, &puts)
		if err != nil {
			return err
		}
		first, err := to.arrived(ctx, limit)
		if err != nil {
			return fmt.Errorf("round %d: after the endpoint was written: %w", i, err)
		}
		for f := range first {
			if first[f].Before(began) {
				return fmt.Errorf("round %d: %s arrived before the endpoint was written", i, familyName[f])
			}
			took[kind][f] = append(took[kind][f], first[f].Sub(began))
		}
		own[kind] = append(own[kind], after(done, first))
		if err := r.client.Delete(ctx, put(w).Key, 0); err != nil {
			return err
		}
		if _, err := to.silent(ctx, from, limit); err != nil {
			return fmt.Errorf("round %d: after the endpoint was deleted: %w", i, err)
		}
		if err := r.agent.DeleteLink(localInterface(host)); err != nil {
			return err
		}
	}
	out.Known, out.New = spells(took[0]), spells(took[1])
	out.KnownOwn, out.NewOwn = spellOf(own[0]), spellOf(own[1])
	return write(ctx, r.client.Client, []store.Op{put(s.policy(0, closedPort))})
}

// counters are read before and after.
type counters struct {
	r        *rig
	gen      uint32
	messages float64
	cpu      time.Duration
}

func (r *rig) count(ctx context.Context) (c counters, err error) {
	c.r = r
	if c.gen, err = generation(r.agent.Namespace); err != nil {
		return c, err
	}
	m, err := metrics(ctx, r.agent.Dir)
	if err != nil {
		return c, err
	}
	c.messages = m["muslin_acl_messages_total"]
	c.cpu, err = proc.CPU(r.agent.Process().Pid())
	return c, err
}

// per notes what each of n changes since the count has cost.
func (c counters) per(ctx context.Context, n int, out *result) error {
	now, err := c.r.count(ctx)
	if err != nil {
		return err
	}
	out.Commits = float64(now.gen-c.gen) / float64(n)
	out.Messages = (now.messages - c.messages) / float64(n)
	out.CPU = (now.cpu - c.cpu) / time.Duration(n)
	return nil
}

// measure does all of it with one scene.
func (r *rig) measure(ctx context.Context, o options, s scene, rounds int) (out result, err error) {
	out.Scene = s
	if err := r.starts(ctx, o, s, &out); err != nil {
		return out, err
	}
	if o.measures("policy") {
		if err := r.policyChanges(ctx, o, s, rounds, &out); err != nil {
			return out, err
		}
	}
	if o.measures("endpoint") {
		if err := r.newEndpoints(ctx, o, s, rounds, &out); err != nil {
			return out, err
		}
	}
	if out.Busy, err = proc.ReadMemory(r.agent.Process().Pid()); err != nil {
		return out, err
	}
	time.Sleep(o.rest)
	if out.Worked, err = proc.ReadMemory(r.agent.Process().Pid()); err != nil || s != o.scene || o.idle == 0 {
		return out, err
	}
	time.Sleep(o.idle)
	idle, err := proc.ReadMemory(r.agent.Process().Pid())
	out.Idle = &idle
	return out, err
}
