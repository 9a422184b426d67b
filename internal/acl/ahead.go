// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

// ReadAhead begins to read the kernel's table, for the next Resync to find it
// read: a start has the datastore to wait for meanwhile. What was read counts
// only if nobody has committed anything since.
func (t *Table) ReadAhead() {
	ahead := make(chan *actual, 1)
	t.ahead = ahead
	go func() {
		a, _ := t.sock.read() // an error comes again when it is read in earnest
		ahead <- a
	}()
}

// awaitAhead ends what ReadAhead began and returns what it has read, nil if
// that is nothing. Before that the socket is not ours to use.
func (t *Table) awaitAhead() *actual {
	if t.ahead == nil {
		return nil
	}
	a := <-t.ahead
	t.ahead = nil
	return a
}

// read returns the table as the kernel has it now.
func (t *Table) read() (*actual, error) {
	if a := t.awaitAhead(); a != nil {
		if gen, err := t.sock.generation(); err == nil && gen == a.gen {
			return a, nil
		}
	}
	return t.sock.read()
}
