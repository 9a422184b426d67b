// SPDX-License-Identifier: Apache-2.0

package store

import "github.com/muslin-net/muslin/internal/secret"

// Secret is a password or a private key; see secret.Text.
type Secret = secret.Text

// NewSecret wraps s; an empty s gives the zero Secret.
func NewSecret(s string) Secret { return secret.New(s) }
