// SPDX-License-Identifier: Apache-2.0

package bfd

import "time"

// queue is a binary heap of sessions by the time when they are due. Each
// session knows its place.
type queue []*session

// schedule puts a session into the queue, or forward in it. A time later than
// the one it waits for is not noted: when that comes, the session sees
// that it is early and waits again. Zero is never.
func (e *Engine) schedule(s *session, at time.Time) {
	switch {
	case at.IsZero():
	case s.index < 0:
		s.due, s.index = at, len(e.queue)
		e.queue = append(e.queue, s)
		e.queue.up(s.index)
	case at.Before(s.due):
		s.due = at
		e.queue.up(s.index)
	}
}

// unschedule takes a session out.
func (e *Engine) unschedule(s *session) {
	i, last := s.index, len(e.queue)-1
	if i < 0 {
		return
	}
	e.queue.swap(i, last)
	e.queue[last] = nil
	e.queue = e.queue[:last]
	s.index = -1
	if i < last {
		e.queue.up(i)
		e.queue.down(i)
	}
}

func (q queue) swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q queue) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !q[i].due.Before(q[parent].due) {
			return
		}
		q.swap(i, parent)
		i = parent
	}
}

func (q queue) down(i int) {
	for {
		least := i
		for _, child := range [...]int{2*i + 1, 2*i + 2} {
			if child < len(q) && q[child].due.Before(q[least].due) {
				least = child
			}
		}
		if least == i {
			return
		}
		q.swap(i, least)
		i = least
	}
}
