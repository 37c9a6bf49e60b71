// Package harness runs whole clusters for tests that need the real thing:
//
//  1. Build makes the holdfast binary; Start gives each node a folder, free
//     loopback ports and a configuration file, and starts one `holdfast server`
//     process for each, or all of them within our own process.
//  2. Nodes know each other only by the addresses of proxies, so that a test can
//     cut, stall or slow down the traffic between two of them (Network).
//  3. A node is stopped, killed, paused and started again by its own process id.
//  4. The cluster is asked through the command line, as operators do, or by gRPC
//     over the node's socket where a test reads much.
//  5. Each node's output is in a file; a failing test prints the ends of them.
//  6. A program that runs clusters has a Workspace: the binary, and a folder that
//     stays after a failure.
package harness
