// SPDX-License-Identifier: Apache-2.0

// Package e2e holds the integration tests: the real daemon on lab hosts,
// judged by packets that are counted where they arrive.
package e2e
