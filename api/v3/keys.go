// SPDX-License-Identifier: Apache-2.0

package v3

import "strings"

// Root is the prefix of the key of every resource.
const Root = "/calico/resources/v3/projectcalico.org/"

// Key returns the etcd key of an object, and "" where there can be none: the
// kind is unknown, the name is empty, a namespaced kind lacks its namespace or
// another has one, or a part holds a slash and would end up as someone else's
// key. For a policy, name is the key's name (see KeyName).
func Key(kind, namespace, name string) string {
	k, ok := kindNamed(kind)
	if !ok || name == "" || strings.Contains(name, "/") || strings.Contains(namespace, "/") || (namespace != "") != k.Namespaced {
		return ""
	}
	if k.Namespaced {
		return Root + k.Plural + "/" + namespace + "/" + name
	}
	return Root + k.Plural + "/" + name
}

// KeyOf returns the etcd key of an object, under the rules of Key.
func KeyOf(r Resource) string {
	k, ok := InfoFor(r)
	if !ok {
		return ""
	}
	return Key(k.Kind, r.Meta().Namespace, KeyName(r))
}

// KeyName returns the name in an object's key, which is its identity. It
// differs from the displayed name of policies that were stored under a
// prefixed name, such as "default.web" for "web".
func KeyName(r Resource) string {
	m := r.Meta()
	if m.KeyName != "" {
		return m.KeyName
	}
	return m.Name
}

// ListPrefix returns the prefix of the keys of all objects of a kind, or of
// those in one namespace if the kind is namespaced and namespace is not empty.
// It ends in a slash. It is "" for an unknown kind.
func ListPrefix(kind, namespace string) string {
	k, ok := kindNamed(kind)
	switch {
	case !ok || strings.Contains(namespace, "/") || namespace != "" && !k.Namespaced:
		return ""
	case namespace != "":
		return Root + k.Plural + "/" + namespace + "/"
	}
	return Root + k.Plural + "/"
}

// ParseKey is the inverse of Key. It is false for keys that are not those of a
// resource of a known kind. As other clients do, it accepts a key without its
// first slash and a plural in any case.
func ParseKey(key string) (kind, namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(key, "/"), Root[1:])
	if !ok {
		return "", "", "", false
	}
	plural, rest, _ := strings.Cut(rest, "/")
	k, ok := kindInKey(strings.ToLower(plural))
	if ok && k.Namespaced {
		namespace, rest, ok = strings.Cut(rest, "/")
		ok = ok && namespace != ""
	}
	if !ok || rest == "" || strings.Contains(rest, "/") {
		return "", "", "", false
	}
	return k.Kind, namespace, rest, true
}
