//go:build tools

// Package tools names the programs that the tests run and that are built from Go sources, so that their
// versions stand in go.mod. They build with the Go of Debian 12.
package tools

import (
	_ "github.com/letsencrypt/pebble/v2/cmd/pebble"
	_ "github.com/summerwind/h2spec/cmd/h2spec"
	_ "helm.sh/helm/v3/cmd/helm"
)
