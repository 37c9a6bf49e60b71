// Package damage has the test of what finds damage: the data folder of one node
// of a real cluster is changed while the node is stopped, as a disk that fails
// silently would change it, and the node is started again.
package damage
