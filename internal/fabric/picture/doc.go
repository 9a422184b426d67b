// SPDX-License-Identifier: Apache-2.0

// Package picture draws a fabric: its topology as one SVG, coloured by AS, and a report
// in HTML with that, how full tables are, what failures do, how it grows, and the
// findings. Both are files of their own: nothing is loaded, and nothing runs.
//
// A picture stays as large as a screen: few racks are drawn with their servers, some more
// without, and of many one of each kind with its number. The same design gives the
// same picture, octet for octet.
package picture
