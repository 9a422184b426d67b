// SPDX-License-Identifier: Apache-2.0

package bgp

import "fmt"

// Route leaks and how roles prevent them, RFC 9234. Both ends of an eBGP session
// say what they are to each other, and the session does not come up when they
// disagree. A route that came from a provider, a peer or a route server carries
// ONLY_TO_CUSTOMER, and goes to customers and clients only; whoever has a role
// says so and checks it, at both ends.

// Role is what we are on an eBGP session (section 4).
type Role uint8

// The roles. Zero is none: then nothing is said and nothing checked.
const (
	RoleProvider Role = iota + 1
	RoleRouteServer
	RoleRouteServerClient
	RoleCustomer
	RolePeer
)

var roleNames = [...]string{"", "provider", "route server", "route server client", "customer", "peer"}

func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role %d", r.wire())
}

// wire is the value in the capability (section 4.1), and roleFrom the reverse.
func (r Role) wire() uint8 { return uint8(r) - 1 }

func roleFrom(v uint8) Role { return Role(min(v, 254)) + 1 }

// Opposite is what the other end must be (section 4.2, table 2).
func (r Role) Opposite() Role {
	switch r {
	case RoleProvider:
		return RoleCustomer
	case RoleCustomer:
		return RoleProvider
	case RoleRouteServer:
		return RoleRouteServerClient
	case RoleRouteServerClient:
		return RoleRouteServer
	}
	return r
}

// down tells whether the other end gets everything: it is a customer, or a
// client of our route server.
func (r Role) down() bool { return r == RoleProvider || r == RoleRouteServer }

// marks tells whether what we send must carry ONLY_TO_CUSTOMER.
func (r Role) marks() bool { return r.down() || r == RolePeer }

// capRole is the code of the capability.
const capRole = 9

// role is what we are on the sessions with a peer; iBGP has no roles (section 4.1).
func (p *peer) role() Role {
	if !p.ebgp {
		return 0
	}
	return p.cfg.Role
}

// mismatch refuses an OPEN whose role does not belong to ours (section 4.2).
func (p *peer) mismatch(m *openMessage) *notification {
	ours := p.role()
	refuse := func(format string, args ...any) *notification {
		return &notification{code: codeOpen, sub: subRoleMismatch, reason: "role mismatch: " + fmt.Sprintf(format, args...)}
	}
	switch {
	case ours == 0:
		return nil
	case m.roles > 1:
		return refuse("the peer says that it is several")
	case m.roles == 0 && p.cfg.RoleStrict:
		return refuse("the peer says none, and must be the %s", ours.Opposite())
	case m.roles == 1 && m.role != ours.Opposite():
		return refuse("the peer says that it is the %s, and we are the %s", m.role, ours)
	}
	return nil
}

// leaked says why a received route is a leak; empty if it is none (section 5,
// ingress 1 and 2).
func (p *peer) leaked(a *attrs) string {
	switch role := p.role(); {
	case role == 0 || !a.hasOTC:
		return ""
	case role.down():
		return fmt.Sprintf("a leak (RFC 9234): ONLY_TO_CUSTOMER of AS %d from a %s", a.otc, role.Opposite())
	case role == RolePeer && a.otc != p.cfg.ASN:
		return fmt.Sprintf("a leak (RFC 9234): ONLY_TO_CUSTOMER of AS %d from a peer of AS %d", a.otc, p.cfg.ASN)
	}
	return ""
}

// marked is a with ONLY_TO_CUSTOMER where a received route must have it
// (section 5, ingress 3).
func (p *peer) marked(a *attrs) *attrs {
	if role := p.role(); role == 0 || role.down() || a.hasOTC {
		return a
	}
	c := a.clone()
	c.otc, c.hasOTC = p.cfg.ASN, true
	return c
}

// staysHere says why a route must not go to the members of a group; empty if it may
// (section 5, egress 2).
func (g *group) staysHere(a *attrs) string {
	if g.key.role == 0 || g.key.role.down() || !a.hasOTC {
		return ""
	}
	return onlyToCustomers[g.key.role]
}

// onlyToCustomers are the reasons, by our role.
var onlyToCustomers = [...]string{
	RoleCustomer:          "ONLY_TO_CUSTOMER, and the peer is our provider (RFC 9234)",
	RolePeer:              "ONLY_TO_CUSTOMER, and the peer is no customer of ours (RFC 9234)",
	RoleRouteServerClient: "ONLY_TO_CUSTOMER, and the peer is our route server (RFC 9234)",
}
