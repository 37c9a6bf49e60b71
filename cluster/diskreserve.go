package cluster

import "github.com/hashicorp/raft"

// diskLow reports whether this node's disk has reached its reserve.
func (c *Cluster) diskLow() bool { return c.cfg.DiskLow != nil && c.cfg.DiskLow() }

// DisksLow reports whether so many disks have reached their reserve that the
// others are no majority, as the leader saw it at this node's last ping. Mail
// that any node takes is written on all of them: to fill those disks up would
// end the quorum, and with it the delivery that makes room.
func (c *Cluster) DisksLow() bool { return c.disksLow.Load() }

// disksLow counts the active nodes with room left.
func (l *leadership) disksLow() bool {
	voters := 0
	for _, server := range l.c.configuration() {
		if server.Suffrage == raft.Voter {
			voters++
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	low, room := 0, 0
	for _, w := range l.watched {
		switch {
		case w.down:
		case w.diskLow:
			low++
		default:
			room++
		}
	}
	return low > 0 && room < voters/2+1
}
