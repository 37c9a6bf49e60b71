package sink

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

func (c *session) mail(step Step) bool {
	address, params, valid := path(step.Args, "FROM:")
	step.Address = address
	reply := ok("sender ok")
	switch {
	case !c.greeted:
		reply = badSequence("EHLO first")
	case c.message != nil:
		reply = badSequence("one transaction at a time")
	case !valid:
		reply = Reply{Code: 501, Enhanced: "5.5.4", Text: "want MAIL FROM:<address>"}
	case c.server.maxSize > 0 && declaredSize(params) > c.server.maxSize:
		reply = Reply{Code: 552, Enhanced: "5.3.4", Text: "message too large"}
	}
	started := time.Now()
	reply, goOn := c.answer(step, reply)
	if reply.Code/100 == 2 {
		c.message = &Message{Conn: c.number, TLS: c.secure, From: address, Params: params, Started: started}
		c.content = content{how: c.server.config.Recording, data: c.content.data[:0]}
		if c.content.how == RecordAll {
			c.content.data = nil // belongs to the record of the message before
		}
	}
	return goOn
}

func (c *session) rcpt(step Step) bool {
	address, params, valid := path(step.Args, "TO:")
	step.Address = address
	reply := ok("recipient ok")
	switch {
	case c.message == nil:
		reply = badSequence("MAIL first")
	case !valid || address == "":
		reply = Reply{Code: 501, Enhanced: "5.5.4", Text: "want RCPT TO:<address>"}
	}
	open := c.message
	reply, goOn := c.answer(step, reply)
	if reply.Code/100 == 2 && open != nil {
		open.Recipients = append(open.Recipients, Recipient{Address: address, Params: params})
	}
	return goOn
}

// path reads "FROM:<address> parameters".
func path(args, keyword string) (address, params string, ok bool) {
	if len(args) < len(keyword) || !strings.EqualFold(args[:len(keyword)], keyword) {
		return "", "", false
	}
	rest := strings.TrimLeft(args[len(keyword):], " ")
	if !strings.HasPrefix(rest, "<") {
		return "", "", false
	}
	quoted := false
	for i := 1; i < len(rest); i++ {
		switch {
		case quoted && rest[i] == '\\':
			i++
		case rest[i] == '"':
			quoted = !quoted
		case rest[i] == '>' && !quoted:
			return rest[1:i], strings.TrimSpace(rest[i+1:]), true
		}
	}
	return "", "", false
}

func declaredSize(params string) int64 {
	for param := range strings.FieldsSeq(params) {
		key, value, _ := strings.Cut(param, "=")
		if strings.EqualFold(key, "SIZE") {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}

// data takes the content after DATA up to the final dot.
func (c *session) data(step Step) bool {
	reply := Reply{Code: 354, Text: "end with a dot on a line of its own"}
	switch {
	case c.message == nil:
		reply = badSequence("MAIL first")
	case c.message.Chunks > 0:
		reply = badSequence("BDAT goes on with BDAT") // RFC 3030 section 2
	case len(c.message.Recipients) == 0:
		reply = Reply{Code: 554, Enhanced: "5.5.1", Text: "no valid recipients"}
	}
	reply, goOn := c.answer(step, reply)
	if !goOn || reply.Code != 354 {
		return goOn
	}
	if c.w.Flush() != nil || !c.stall(reply.Stall) {
		return false
	}
	if c.message == nil { // an Answer that gives 354 out of sequence
		c.message = &Message{Conn: c.number, TLS: c.secure, Started: time.Now()}
		c.content = content{how: c.server.config.Recording}
	}
	if c.content.readData(c.r) != nil {
		return false
	}
	return c.finish()
}

// bdat takes one chunk (RFC 3030).
func (c *session) bdat(step Step) bool {
	size, last, err := chunk(step.Args)
	if err != nil {
		// The octets that follow can't be told from commands.
		c.answer(step, Reply{Code: 501, Enhanced: "5.5.4", Text: "want BDAT SIZE [LAST]", Hangup: true})
		return false
	}
	if refusal := c.refuseChunk(); refusal.Code != 0 {
		if _, err := c.r.Discard(size); err != nil {
			return false
		}
		_, goOn := c.answer(step, refusal)
		return goOn
	}
	c.message.Chunks++
	if c.content.readChunk(c.r, int64(size)) != nil {
		return false
	}
	if last {
		return c.finish()
	}
	reply, goOn := c.answer(step, ok(strconv.Itoa(size)+" octets"))
	if reply.Code/100 != 2 {
		c.end(false)
	}
	return goOn
}

func (c *session) refuseChunk() Reply {
	_, offered := c.server.config.offers("CHUNKING")
	switch {
	case !offered:
		return Reply{Code: 502, Enhanced: "5.5.1", Text: "CHUNKING not offered"}
	case c.message == nil:
		return badSequence("MAIL first")
	case len(c.message.Recipients) == 0:
		return Reply{Code: 554, Enhanced: "5.5.1", Text: "no valid recipients"}
	}
	return Reply{}
}

func chunk(args string) (size int, last bool, err error) {
	number, rest, _ := strings.Cut(args, " ")
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || n < 0 {
		return 0, false, fmt.Errorf("chunk size %q", number)
	}
	return int(n), strings.EqualFold(strings.TrimSpace(rest), "LAST"), nil
}

// finish answers a complete content.
func (c *session) finish() bool {
	c.message.Complete = true
	c.fill()
	reply := ok("taken")
	if c.server.maxSize > 0 && c.message.Size > c.server.maxSize {
		reply = Reply{Code: 552, Enhanced: "5.3.4", Text: "message too large"}
	}
	step := Step{Verb: Dot, Message: c.message}
	reply = c.decide(step, reply)
	if !c.hold(reply) {
		return false
	}
	c.end(reply.Code/100 == 2)
	return c.write(reply)
}

func (c *session) fill() {
	c.message.Size = c.content.size
	c.message.ID = c.content.header(c.server.config.IDHeader)
	if c.content.how == RecordAll {
		c.message.Data = c.content.data
	}
}

// end records the open transaction, if there is one.
func (c *session) end(committed bool) {
	if c.message == nil {
		return
	}
	c.fill()
	c.message.Committed = committed
	c.message.Done = time.Now()
	c.server.record.add(c.message, c.server.config.Recording)
	c.message = nil
}
