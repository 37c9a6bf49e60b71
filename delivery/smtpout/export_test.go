package smtpout

// Committed reports what AbortUnlessCommitted goes by.
func (c *Conn) Committed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.content == complete && acknowledged(c.tcp)
}

// Complete reports whether the last octets are written.
func (c *Conn) Complete() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.content == complete
}
