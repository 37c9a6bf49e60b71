package main

import (
	"testing"
	"time"

	"holdfast/test/load"
)

func TestParse(t *testing.T) {
	if o, err := parse(nil); err != nil || o.queue != 10_000 || o.floor != 500 {
		t.Errorf("without flags: %+v, %v", o, err)
	}
	if o, err := parse([]string{"-short"}); err != nil || o.queue != 500 || o.least != time.Second {
		t.Errorf("-short gives %+v, %v", o, err)
	}
	for _, args := range [][]string{{"more"}, {"-queue", "0"}, {"-rate", "10"}, {"-floor", "-1"}, {"-nothing"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

// Every answer belongs to one chapter.
func TestBetween(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	var answers []load.Answer
	for i := range 10 {
		answers = append(answers, load.Answer{At: at(i)})
	}
	total := 0
	for _, window := range [][2]int{{0, 3}, {3, 3}, {3, 9}, {9, 20}} {
		found := between(answers, at(window[0]), at(window[1]))
		if len(found) > 0 && !found[0].At.Equal(at(window[0])) {
			t.Errorf("window %v begins at %s", window, found[0].At)
		}
		total += len(found)
	}
	if total != len(answers) {
		t.Errorf("%d answers in all windows, want %d", total, len(answers))
	}
}
