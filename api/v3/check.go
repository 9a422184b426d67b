// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/muslin-net/muslin/selector"
)

// MaxSelector is the length of a selector that the model allows, in bytes.
const MaxSelector = 1024

// checkTags checks every value below v against the tags of its field.
func (f *faults) checkTags(v reflect.Value, path string) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		if isOpaque(v.Type()) {
			return
		}
		for _, field := range fields(v.Type()) {
			value := v.FieldByIndex(field.index)
			here := joinPath(path, field.name)
			f.checkField(value, field, here)
			f.checkTags(value, here)
		}
	case reflect.Slice:
		if elem := v.Type().Elem(); elem.Kind() != reflect.Struct && elem.Kind() != reflect.Pointer {
			return
		}
		for i := range v.Len() {
			f.checkTags(v.Index(i), path+"["+strconv.Itoa(i)+"]")
		}
	}
}

func (f *faults) checkField(v reflect.Value, field field, path string) {
	zero := v.IsZero()
	if v.Kind() == reflect.Pointer && !zero {
		v = v.Elem()
	}
	rule := field.tag.Get("check")
	ranged := strings.Contains(rule, "..")
	switch {
	case zero && field.tag.Get("required") != "":
		f.add(path, "required")
		return
	case zero && (!ranged || strings.Contains(field.tag.Get("json"), ",omit")):
		return // absent
	}
	if list := field.tag.Get("oneof"); list != "" {
		f.each(v, path, func(v reflect.Value, path string) { f.checkOneOf(v, path, list, field.tag.Get("fold") != "") })
	}
	switch {
	case rule == "":
	case ranged:
		low, high, _ := strings.Cut(rule, "..")
		lo, _ := strconv.ParseInt(low, 10, 64)
		hi, _ := strconv.ParseInt(high, 10, 64)
		if n, ok := integer(v); ok && (n < lo || n > hi) {
			f.add(path, "%d: want %d–%d", n, lo, hi)
		}
	case strings.HasPrefix(rule, "each-"):
		f.each(v, path, func(v reflect.Value, path string) { f.checkText(v, path, strings.TrimPrefix(rule, "each-")) })
	default:
		f.checkText(v, path, rule)
	}
}

// each calls check for the elements of a list, or for a value that is no list.
func (f *faults) each(v reflect.Value, path string, check func(reflect.Value, string)) {
	if v.Kind() != reflect.Slice {
		check(v, path)
		return
	}
	for i := range v.Len() {
		check(v.Index(i), path+"["+strconv.Itoa(i)+"]")
	}
}

func integer(v reflect.Value) (int64, bool) {
	switch {
	case v.CanInt():
		return v.Int(), true
	case v.CanUint():
		return int64(v.Uint()), true
	}
	return 0, false
}

func (f *faults) checkOneOf(v reflect.Value, path, list string, fold bool) {
	got := fmt.Sprint(v.Interface())
	for option := range strings.SplitSeq(list, "|") {
		if got == option || fold && strings.EqualFold(got, option) {
			return
		}
	}
	f.add(path, "%q: want %s", got, strings.ReplaceAll(list, "|", ", "))
}

// checkText checks a value by the rules that a check tag names: selector,
// namespace-selector, name, label, interface, interface-glob, port-name,
// protocol, port, mac, community, dscp, ip-port; ip, ip4, ip6 (an address); net,
// net4, net6 (CIDR or address); cidr (with a length); host (a network of one).
// A tag "each-" and one of these is for the elements of a list, "0..255" for the
// range of a number.
func (f *faults) checkText(v reflect.Value, path, rule string) {
	var err error
	switch got := v.Interface().(type) {
	case Port:
		if got.Name == "" && got.Min == 0 {
			err = fmt.Errorf("port 0: want 1–65535")
		}
	case Protocol:
		if n, ok := got.Number(); !ok || n == 0 {
			err = fmt.Errorf("protocol %q: want TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or 1–255", got)
		}
	case IntOrString:
		_, err = ParseDSCP(got.Text)
	case string:
		err = checkString(got, rule)
	}
	if err != nil {
		f.add(path, "%v", err)
	}
}

func checkString(s, rule string) error {
	switch rule {
	case "selector", "namespace-selector":
		return checkSelector(s, rule == "namespace-selector")
	case "name":
		return checkSubdomain(s)
	case "label":
		return checkDNSLabel(s)
	case "interface", "interface-glob":
		if s != "*" && !(rule == "interface-glob" && interfaceName(strings.ReplaceAll(s, "*", "x"))) && !interfaceName(s) {
			return fmt.Errorf("%q: want the name of an interface: 1–15 of letters, digits, '_', '.', '-'", s)
		}
	case "port-name":
		if p, err := ParsePort(s); err != nil || p.Name == "" {
			return fmt.Errorf("%q: want 1–128 of letters, digits, '_', '.', '-', not only digits", s)
		}
	case "mac":
		_, err := ParseMAC(s)
		return err
	case "community":
		_, err := ParseCommunity(s)
		return err
	case "ip-port":
		_, _, err := ParsePeerIP(s)
		return err
	case "ip", "ip4", "ip6":
		a, err := ParseAddr(s)
		if err != nil {
			return err
		}
		return checkFamily(s, a.Is4(), rule)
	case "net", "net4", "net6", "cidr", "host":
		p, err := ParseNetwork(s)
		switch {
		case err != nil:
			return err
		case rule == "cidr" && !strings.Contains(s, "/"):
			return fmt.Errorf("network %q: give its length, such as %s", s, p)
		case rule == "host" && !p.IsSingleIP():
			return fmt.Errorf("network %q: want one address: length /%d or none", s, p.Addr().BitLen())
		}
		return checkFamily(s, p.Addr().Is4(), rule)
	}
	return nil
}

func checkFamily(s string, is4 bool, rule string) error {
	switch {
	case strings.HasSuffix(rule, "4") && !is4:
		return fmt.Errorf("%q: want IPv4 here", s)
	case strings.HasSuffix(rule, "6") && is4:
		return fmt.Errorf("%q: want IPv6 here", s)
	}
	return nil
}

func interfaceName(s string) bool {
	return s != "" && len(s) <= 15 && strings.Trim(s, letters+digits+"_.-") == ""
}

func checkSelector(s string, globalAllowed bool) error {
	if len(s) > MaxSelector {
		return fmt.Errorf("selector of %d characters: the limit is %d", len(s), MaxSelector)
	}
	p, err := selector.Parse(s)
	switch {
	case err != nil:
		return err
	case p.UsesGlobal() && !globalAllowed:
		return fmt.Errorf("selector %q: global() is for the namespaceSelector of a rule only", s)
	case p.UsesGlobal() && !p.IsGlobal():
		return fmt.Errorf("selector %q: global() must stand alone", s)
	}
	return nil
}

const (
	lower   = "abcdefghijklmnopqrstuvwxyz"
	letters = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

// isDNSLabel tells whether s is a label of RFC 1123, in lower case.
func isDNSLabel(s string) bool {
	return s != "" && strings.Trim(s, lower+digits+"-") == "" && s[0] != '-' && s[len(s)-1] != '-'
}

func checkDNSLabel(s string) error {
	if len(s) > 63 || !isDNSLabel(s) {
		return fmt.Errorf("%q: want 1–63 of a–z, 0–9 and '-', which neither begins nor ends with '-'", s)
	}
	return nil
}

func isSubdomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if !isDNSLabel(part) {
			return false
		}
	}
	return true
}

func checkSubdomain(s string) error {
	if !isSubdomain(s) {
		return fmt.Errorf("%q: want at most 253 of a–z, 0–9, '-' and '.', with a letter or digit at both ends of every part", s)
	}
	return nil
}

// isLabelPart tells whether s may be the value of a label, or the name of one
// without its prefix.
func isLabelPart(s string) bool {
	return s != "" && len(s) <= 63 && strings.Trim(s, letters+digits+"-_.") == "" &&
		strings.Trim(s[:1]+s[len(s)-1:], letters+digits) == ""
}

// isQualifiedName tells whether s may be the name of a label or annotation.
func isQualifiedName(s string) bool {
	prefix, name, ok := strings.Cut(s, "/")
	if !ok {
		return isLabelPart(s)
	}
	return isSubdomain(prefix) && isLabelPart(name)
}

func (f *faults) checkLabels(labels map[string]string, path string) {
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		here := path + "[" + strconv.Quote(k) + "]"
		if !isQualifiedName(k) {
			f.add(here, "want a label name: at most 63 letters, digits, '-', '_' and '.', optionally after a DNS name and '/'")
		}
		if v := labels[k]; v != "" && !isLabelPart(v) {
			f.add(here, "%q: want a label value: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends", v)
		}
	}
}
