// SPDX-License-Identifier: Apache-2.0

// Package change brings one design to another: what each device has to change, in which
// order, and what is lost in between.
//
// A device gets its new configuration as a whole; what differs is which devices have it
// already. Devices that change alike are one step, in which they follow one another. The
// order is found by simulation: where there are few steps no other one loses less; else, of the
// steps that are left, the one that loses least is next. Between two devices of different designs
// a session is up if each expects the other as it is: on the same segment, with its address and AS
// number of the moment.
package change
