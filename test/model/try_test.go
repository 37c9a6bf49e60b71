package model

import (
	"fmt"
	"testing"
	"time"
)

func TestTry(t *testing.T) {
	for _, f := range []faults{{elections: 1}, {downs: 1}, {downs: 1, hiccups: 1}, {downs: 1, pauses: 1}, {elections: 1, downs: 1}, {elections: 1, downs: 1, pauses: 1}} {
		begin := time.Now()
		r, err := explore(scope{leader: 1, faults: f, taken: true}, allRules)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("%s: %d states %d logs %v %s\n", f, r.States, r.Logs, time.Since(begin).Round(time.Millisecond), r.Broken)
		for i, l := range r.Story {
			fmt.Println("  ", i+1, l)
		}
	}
}
