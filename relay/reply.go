package relay

import "fmt"

// Reply is an SMTP reply that the front door gives: the one error type in which
// a session says no, and the form of its yes.
type Reply struct {
	Code     int
	Enhanced string // RFC 3463, without it for 354 and EHLO
	Text     string
}

// Error makes a refusing Reply usable as an error.
func (r *Reply) Error() string { return r.String() }

// String is the reply as one line without its line end.
func (r *Reply) String() string {
	if r.Enhanced == "" {
		return fmt.Sprintf("%d %s", r.Code, r.Text)
	}
	return fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text)
}

// Temporary reports whether the client may try again (4xx).
func (r *Reply) Temporary() bool { return r.Code >= 400 && r.Code < 500 }
