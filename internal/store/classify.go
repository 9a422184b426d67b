// SPDX-License-Identifier: Apache-2.0

package store

import (
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// The watch is one etcd watch over this range, so that one transaction comes
// as one event. The range leaves out what others write often and nobody here
// reads (/calico/felix, /calico/dhcp, /calico/compaction).
const (
	watchStart = "/calico/ipam/v2/"
	watchEnd   = "/calico/resources/v3/projectcalico.org0"
)

// What is listed, and delivered, of that range.
const (
	resourcePrefix = "/calico/resources/v3/projectcalico.org/"
	blockPrefix    = "/calico/ipam/v2/assignment/"
	affinityPrefix = "/calico/ipam/v2/host/"
	ipamConfigKey  = "/calico/ipam/v2/config"
)

// The kinds of Change that are not resources of api/v3. Their values come as
// Raw only; internal/ipam reads them.
const (
	// KindBlock is an allocation block. Name is its CIDR.
	KindBlock = "IPAMBlock"
	// KindBlockAffinity is a node's claim to a block. Namespace is the node, Name
	// the CIDR. Without a CIDR it is the legacy mark that a node uses IPAM.
	KindBlockAffinity = "IPAMAffinity"
	// KindIPAMConfig is the one IPAM configuration. Name is "default".
	KindIPAMConfig = "IPAMConfigV1"
)

// listed are the prefixes that together hold everything the watch delivers.
var listed = [...]string{ipamConfigKey, blockPrefix, affinityPrefix, resourcePrefix}

// ref is what a key says about its object.
type ref struct{ kind, namespace, name string }

// refOf returns what key refers to, and false for a key that nobody here
// reads.
func refOf(key string) (ref, bool) {
	switch {
	case strings.HasPrefix(key, resourcePrefix):
		kind, ns, name, ok := v3.ParseKey(key)
		return ref{kind, ns, name}, ok
	case key == ipamConfigKey:
		return ref{kind: KindIPAMConfig, name: "default"}, true
	case strings.HasPrefix(key, blockPrefix):
		if cidr, ok := blockCIDR(key[len(blockPrefix):]); ok {
			return ref{kind: KindBlock, name: cidr}, true
		}
	case strings.HasPrefix(key, affinityPrefix):
		node, rest, found := strings.Cut(key[len(affinityPrefix):], "/")
		if node == "" {
			return ref{}, false
		}
		if !found {
			return ref{kind: KindBlockAffinity, namespace: node}, true
		}
		if cidr, ok := blockCIDR(rest); ok {
			return ref{kind: KindBlockAffinity, namespace: node, name: cidr}, true
		}
	}
	return ref{}, false
}

// blockCIDR reads "ipv4/block/10.65.0.0-26" as "10.65.0.0/26".
func blockCIDR(s string) (string, bool) {
	for _, family := range [...]string{"ipv4/block/", "ipv6/block/"} {
		if rest, ok := strings.CutPrefix(s, family); ok {
			if i := strings.LastIndexByte(rest, '-'); i > 0 && !strings.Contains(rest, "/") {
				return rest[:i] + "/" + rest[i+1:], true
			}
		}
	}
	return "", false
}

// decodeKV turns a resource's bytes into its object. The key, not the value,
// says what it is called (a policy may be displayed under another name). Of a
// policy with an error it returns what v3.DecodeKV could read.
func decodeKV(kv KV) (v3.Resource, error) {
	obj, err := v3.DecodeKV(kv.Key, kv.Value)
	if err != nil {
		return obj, &Error{Op: "read", Object: kv.Key, Err: err}
	}
	obj.Meta().ResourceVersion = formatRevision(kv.Revision)
	return obj, nil
}
