package delivery

import (
	"time"

	"holdfast/delivery/smtpout"
)

// idleConn is a connection that waits for another message.
type idleConn struct {
	conn  *smtpout.Conn
	since time.Time
}

// takeConn takes the connection used last that is still good, nil if none is.
func (q *queue) takeConn() *smtpout.Conn {
	for len(q.idle) > 0 {
		last := q.idle[len(q.idle)-1]
		q.idle = q.idle[:len(q.idle)-1]
		if last.conn.Alive() {
			return last.conn
		}
		last.conn.Abort()
	}
	return nil
}

// takeIdle takes connections that have waited since before a time; the zero
// time means all.
func (q *queue) takeIdle(before time.Time) []*smtpout.Conn {
	return q.take(func(c idleConn) bool { return before.IsZero() || c.since.Before(before) })
}

// takeHost takes the connections to one host.
func (q *queue) takeHost(host string) []*smtpout.Conn {
	return q.take(func(c idleConn) bool { return c.conn.Host() == host })
}

func (q *queue) take(which func(idleConn) bool) []*smtpout.Conn {
	var taken []*smtpout.Conn
	kept := q.idle[:0]
	for _, idle := range q.idle {
		if which(idle) {
			taken = append(taken, idle.conn)
		} else {
			kept = append(kept, idle)
		}
	}
	q.idle = kept
	return taken
}

// keep puts an ended attempt's connection aside for another message, or closes
// it where there will be none.
func (s *Scheduler) keep(q *queue, a *attempt) {
	conn := a.takeConn()
	if conn == nil {
		return
	}
	if !conn.Reusable() || !s.mayAct() || !q.owned || q.hosts.avoids(conn.Host(), a.ended) || a.revision != q.revision || len(q.idle) >= q.slots() {
		s.closeConns(q, []*smtpout.Conn{conn})
		return
	}
	q.idle = append(q.idle, idleConn{conn: conn, since: s.cfg.Now()})
}

// closeConns ends connections; each takes a slot until the peer has said goodbye.
func (s *Scheduler) closeConns(q *queue, conns []*smtpout.Conn) {
	for _, conn := range conns {
		q.closing++
		s.start(func() func() {
			conn.Close()
			return func() {
				q.closing--
				s.markDirty(q.name)
			}
		})
	}
}

// closeIdle says goodbye to connections that nobody needed lately.
func (s *Scheduler) closeIdle(before time.Time) {
	for _, q := range s.queues {
		s.closeConns(q, q.takeIdle(before))
	}
}
