// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"time"
)

// Config is the value of ConfigKey. Every member is left out of the JSON when
// it is zero, and one that is left out of a stored value is zero: a stored
// Config without auto_allocate_blocks means that no block is ever claimed.
// Only where there is no key at all does DefaultConfig apply.
type Config struct {
	StrictAffinity     bool
	AutoAllocateBlocks bool
	MaxBlocksPerHost   int // per family; 0 is no limit of its own
	// Persistence is kubeVirtVMAddressPersistence.
	Persistence string
	// Cooldown is how long a released address stays unused, in whole seconds.
	Cooldown time.Duration
	others   members
}

// DefaultConfig is what holds while nothing is stored.
func DefaultConfig() Config { return Config{AutoAllocateBlocks: true} }

// DecodeConfig reads a stored value.
func DecodeConfig(b []byte) (Config, error) {
	var c Config
	m, err := decodeObject(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", ConfigKey, err)
	}
	var seconds int
	take(m, "strict_affinity", &c.StrictAffinity, &err)
	take(m, "auto_allocate_blocks", &c.AutoAllocateBlocks, &err)
	take(m, "maxBlocksPerHost", &c.MaxBlocksPerHost, &err)
	take(m, "kubeVirtVMAddressPersistence", &c.Persistence, &err)
	take(m, "ipCooldownSeconds", &seconds, &err)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", ConfigKey, err)
	}
	c.Cooldown = time.Duration(seconds) * time.Second
	c.others = m
	return c, nil
}

// Encode returns the JSON to store.
func (c Config) Encode() ([]byte, error) {
	var o object
	if c.StrictAffinity {
		o.set("strict_affinity", true)
	}
	if c.AutoAllocateBlocks {
		o.set("auto_allocate_blocks", true)
	}
	if c.MaxBlocksPerHost != 0 {
		o.set("maxBlocksPerHost", c.MaxBlocksPerHost)
	}
	if c.Persistence != "" {
		o.set("kubeVirtVMAddressPersistence", c.Persistence)
	}
	if s := int(c.Cooldown / time.Second); s != 0 {
		o.set("ipCooldownSeconds", s)
	}
	return o.end(c.others)
}

// Validate refuses combinations that could never hand out an address as asked
// and values out of range.
func (c Config) Validate() error {
	var errs []error
	if !c.StrictAffinity && !c.AutoAllocateBlocks {
		errs = append(errs, errors.New("auto_allocate_blocks: false needs strict_affinity true"))
	}
	if c.MaxBlocksPerHost > 0 && !c.StrictAffinity {
		errs = append(errs, errors.New("maxBlocksPerHost: needs strict_affinity true"))
	}
	if c.MaxBlocksPerHost < 0 {
		errs = append(errs, fmt.Errorf("maxBlocksPerHost: %d is negative", c.MaxBlocksPerHost))
	}
	if c.Cooldown < 0 || c.Cooldown > 1200*time.Second {
		errs = append(errs, fmt.Errorf("ipCooldownSeconds: %d is not within 0–1200", int(c.Cooldown/time.Second)))
	}
	return errors.Join(errs...)
}
