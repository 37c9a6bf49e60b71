package sink

import (
	"strconv"
	"time"
)

// answer puts a step to Config.Answer and writes the reply; goOn is false
// where the connection ends here.
func (c *session) answer(step Step, standard Reply) (reply Reply, goOn bool) {
	reply = c.decide(step, standard)
	return reply, c.hold(reply) && c.write(reply)
}

func (c *session) decide(step Step, standard Reply) Reply {
	step.Conn = c.number
	step.Open = c.server.record.open()
	if step.Message == nil {
		step.Message = c.message
	}
	reply := (*c.server.answer.Load())(step)
	if !reply.chosen() {
		standard.Hold, standard.Delay, standard.Stall = reply.Hold, reply.Delay, reply.Stall
		return standard
	}
	return reply
}

// hold keeps a reply back as it asks for; false where the server closes
// meanwhile.
func (c *session) hold(reply Reply) bool {
	if reply.Hold == nil && reply.Delay == 0 {
		return true
	}
	if c.w.Flush() != nil {
		return false
	}
	if reply.Hold != nil {
		select {
		case <-reply.Hold:
		case <-c.server.closing:
			return false
		}
	}
	if reply.Delay > 0 {
		timer := time.NewTimer(reply.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.server.closing:
			return false
		}
	}
	return true
}

// write buffers a reply; false where it hangs up.
func (c *session) write(reply Reply) bool {
	switch {
	case reply.Silent:
	case reply.Raw != "":
		c.w.WriteString(reply.Raw)
	case reply.Code != 0:
		b := strconv.AppendInt(c.w.AvailableBuffer(), int64(reply.Code), 10)
		if reply.Enhanced != "" {
			b = append(append(b, ' '), reply.Enhanced...)
		}
		b = append(append(b, ' '), reply.Text...)
		c.w.Write(append(b, "\r\n"...)) // bufio keeps the error for Flush
	}
	return !reply.Hangup && reply.Code != 421
}
