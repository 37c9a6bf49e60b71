// Package node puts one node together: it is the only place that wires the
// parts, for `holdfast server`, for `holdfast dev` and for tests alike.
//
//  1. Load reads and checks the node file (config.go, validate.go).
//  2. New binds every address, opens the state and the log stores, and makes
//     the parts (node.go). What can't work is an error here, before anything runs.
//  3. Run starts the parts from the inside out, cluster first, front door last
//     (run.go), and stops them in the reverse order.
//  4. Beside them run the admin services (run.go) and, over HTTP, metrics and
//     health (http.go).
package node
