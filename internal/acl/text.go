// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/policy"
)

// Text shows the desired tables for the view, as nft(8) would write them in
// spirit; it is never parsed.
func (t *Table) Text(view policy.View) string {
	r := t.renderer()
	r.text = true
	return text(r, view)
}

func text(r *renderer, view policy.View) string {
	_, w := entire(r, view, nil)
	parts := map[string][]elem{}
	for _, s := range w.sets {
		if s.in != "" {
			parts[s.in] = append(parts[s.in], s.content(view, nil)...)
		}
	}
	var b strings.Builder
	for _, table := range tables {
		w.text(&b, view, table, parts)
	}
	return b.String()
}

// text shows one table. parts are the elements of parts, by the sets they are in.
func (w *whole) text(b *strings.Builder, view policy.View, table byte, parts map[string][]elem) {
	fmt.Fprintf(b, "table %s {\n", tableWord(table))
	defer b.WriteString("}\n")
	for _, s := range w.sets {
		where, name := home(s.name)
		if s.in != "" || where != table {
			continue
		}
		word := "set"
		if s.typ.flags&unix.NFT_SET_MAP != 0 {
			word = "map"
		}
		fmt.Fprintf(b, "\t%s %s {\n\t\ttype %s\n", word, name, s.typ.word)
		if s.comment != "" {
			fmt.Fprintf(b, "\t\tcomment %q\n", s.comment)
		}
		for _, e := range elemTexts(s, append(w.content(s, view), parts[s.name]...)) {
			fmt.Fprintf(b, "\t\t%s\n", e)
		}
		b.WriteString("\t}\n")
	}
	for _, c := range w.chains {
		where, name := home(c.name)
		if where != table {
			continue
		}
		fmt.Fprintf(b, "\tchain %s {", name)
		if c.comment != "" {
			fmt.Fprintf(b, " # %s", c.comment)
		}
		b.WriteString("\n")
		if c.hook != nil {
			fmt.Fprintf(b, "\t\ttype %s hook %s priority %d; policy accept\n", c.hook.kind(), hookWord(table, c.hook), c.hook.priority)
		}
		for _, r := range c.rules {
			fmt.Fprintf(b, "\t\t%s", r.text)
			if r.comment != "" {
				fmt.Fprintf(b, " # %s", r.comment)
			}
			b.WriteString("\n")
		}
		b.WriteString("\t}\n")
	}
}

func hookWord(table byte, h *hook) string {
	switch table {
	case arpTable:
		return [...]string{"input", "output"}[h.num]
	case netdevTable:
		return [...]string{"ingress", "egress"}[h.num] + " device " + strconv.Quote(h.device)
	}
	return [...]string{"prerouting", "input", "forward", "output", "postrouting"}[h.num]
}

func elemTexts(s *set, es []elem) []string {
	var out []string
	if s.typ.flags&setConcat != 0 {
		for _, e := range es {
			out = append(out, boxText(s.typ, e))
		}
		return out
	}
	if s.typ.flags&unix.NFT_SET_INTERVAL != 0 {
		for i, e := range es {
			if e.end {
				continue
			}
			stop := ""
			if i+1 < len(es) && es[i+1].end {
				stop = es[i+1].key
			}
			out = append(out, rangeText(e.key, stop))
		}
		slices.Sort(out)
		return out
	}
	for _, e := range es {
		var t string
		switch s.typ {
		case setEnd4, setEnd6:
			n := len(e.key) - 8
			t = keyText(e.key[:n]) + " . " + strconv.Itoa(int(e.key[n])) + " . " + keyText(e.key[n+4:n+6])
		case setMark:
			t = fmt.Sprintf("%#08x", binary.NativeEndian.Uint32([]byte(e.key)))
		case setIfname, setIfPolicy, setVmap:
			t = cstr([]byte(e.key))
		case setIfIPv4, setIfIPv6:
			t = cstr([]byte(e.key[:16])) + " . " + keyText(e.key[16:])
		case setPartIPv4, setPartIPv6:
			t = cstr([]byte(e.key[:16])) + " . " + keyText(e.key[16:])
		case setPair4, setPair6, setAddrPair4, setAddrPair6:
			t = keyText(e.key[:len(e.key)/2]) + " . " + keyText(e.key[len(e.key)/2:])
		case setListService:
			t = cstr([]byte(e.key[:16])) + " . " + serviceText(e.key[16:])
		case setService:
			t = serviceText(e.key)
		case setIfEther:
			t = cstr([]byte(e.key[:16])) + " . " + net.HardwareAddr(e.key[16:22]).String()
		case setIfOwn4, setIfOwn6:
			t = cstr([]byte(e.key[:16])) + " . " + net.HardwareAddr(e.key[16:22]).String() + " . " + ownText(e.key[24:])
		case setIfOwnAny4, setIfOwnAny6:
			t = cstr([]byte(e.key[:16])) + " . " + ownText(e.key[16:])
		case setSender:
			t = cstr([]byte(e.key[:16])) + " . " + net.HardwareAddr(e.key[16:22]).String() + " . " + net.HardwareAddr(e.key[24:30]).String() + " . " + keyText(e.key[32:])
		default:
			t = keyText(e.key)
		}
		if e.target != "" {
			if s.typ.dataType == typeVerdict {
				t += " : jump " + e.target
			} else if n := len(e.target); n == 4 || n == 16 {
				t += " : " + keyText(e.target)
			} else {
				t += " : " + cstr([]byte(e.target[:16])) + " . " + e.target[16:]
			}
		}
		if e.note != "" {
			t += " comment " + strconv.Quote(e.note)
		}
		out = append(out, t)
	}
	slices.Sort(out)
	return out
}

// boxText shows the first and the last of each field.
func boxText(t *setType, e elem) string {
	var words []string
	at := uint32(0)
	if t == setIfNets4 || t == setIfNets6 {
		n := len(ifKey(""))
		words, e.key, e.last = []string{cstr([]byte(e.key[:n]))}, e.key[n:], e.last[n:]
		t = map[*setType]*setType{setIfNets4: setIPv4, setIfNets6: setIPv6}[t]
	}
	for _, n := range fieldLengths(t.keyType) {
		first, last := keyText(e.key[at:at+n]), keyText(e.last[at:at+n])
		if first != last {
			first += "-" + last
		}
		words = append(words, first)
		at += (n + 3) &^ 3
	}
	return strings.Join(words, " . ")
}

func serviceText(k string) string {
	return strconv.Itoa(int(k[0])) + " . " + keyText(k[4:6])
}

// keyText shows an address, a port or a number by its length.
func keyText(k string) string {
	switch len(k) {
	case 4, 16:
		a, _ := netip.AddrFromSlice([]byte(k))
		return a.String()
	case 2:
		return strconv.Itoa(int(k[0])<<8 | int(k[1]))
	case 1:
		return strconv.Itoa(int(k[0]))
	}
	return fmt.Sprintf("%x", k)
}

// ownText is an address and a protocol.
func ownText(key string) string {
	at := len(key) - 4
	return keyText(key[:at]) + " . " + strconv.Itoa(int(key[at]))
}
