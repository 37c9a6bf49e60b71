package admin

import (
	"testing"
	"time"

	"holdfast/fsm"
	"holdfast/relay"
)

// However late it is, a page gets on: an empty one without a token would be the end
// of the list.
func TestPageGetsOnHoweverLate(t *testing.T) {
	asked := 0
	list := func(fsm.Filter, []byte, int) ([]relay.MessageID, []byte, error) {
		asked++
		return nil, []byte{byte(asked)}, nil
	}
	var w window
	messages, cursor, err := w.search(list, fsm.Filter{}, nil, 5, time.Now().Add(-time.Second))
	if err != nil || len(messages) != 0 || len(cursor) != 1 || asked != 1 {
		t.Errorf("messages %v, cursor %v, the list was asked %d times: %v", messages, cursor, asked, err)
	}
}
