// Package race tells tests whether the race detector watches them. With it
// Pebble checks its own invariants, too, and weeks of virtual time or hundreds of
// states take minutes: a test does a share of them then, and all of them in
// `make test`'s second pass, which is without it.
package race
