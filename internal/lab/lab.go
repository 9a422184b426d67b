// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
)

// Lab makes namespaces whose names start with one prefix and deletes all of
// them on Close. It is safe for concurrent use.
type Lab struct {
	prefix string

	mu     sync.Mutex
	spaces []*Namespace
	closed bool
}

// New returns an empty lab. Its namespaces are called PREFIX-NAME. An empty
// prefix gives a random one, so that several labs run side by side.
func New(prefix string) *Lab {
	if prefix == "" {
		b := make([]byte, 4)
		rand.Read(b) // never fails since Go 1.24
		prefix = "lab" + hex.EncodeToString(b)
	}
	return &Lab{prefix: prefix}
}

// Prefix returns what the names of all namespaces of this lab start with.
func (l *Lab) Prefix() string { return l.prefix }

// Namespace makes a namespace called PREFIX-NAME with loopback up.
func (l *Lab) Namespace(name string) (*Namespace, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.New("lab is closed: make the namespace before Close")
	}
	n, err := NewNamespace(l.prefix + "-" + name)
	if err != nil {
		return nil, err
	}
	l.spaces = append(l.spaces, n)
	return n, nil
}

// Workload makes a namespace without any link but loopback: what a container
// runtime hands over before its network is attached.
func (l *Lab) Workload(name string) (*Namespace, error) { return l.Namespace(name) }

// Close ends every process and server of the lab and deletes its namespaces,
// youngest first. It is idempotent and returns all errors joined.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	var errs []error
	for i := len(l.spaces) - 1; i >= 0; i-- {
		errs = append(errs, l.spaces[i].Delete())
	}
	l.spaces = nil
	return errors.Join(errs...)
}
