// Package configfile reads and writes the configuration of a cluster as one TOML
// file:
//
//  1. Read takes the text apart into the tables of what it sets, each value with
//     its line (scan.go).
//  2. What each table may have is in one list of keys for each kind
//     (keys.go), by which values become the requests of the admin services.
//     Their checks are the admin services' own.
//  3. Write goes by the same lists, so that what it writes reads the same.
//
// Everything wrong with a file is found at once, and nothing is looked up: a file
// is read the same whatever the cluster has.
package configfile
