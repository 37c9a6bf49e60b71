package model

import (
	"fmt"
	"testing"
	"time"
)

func TestTry(t *testing.T) {
	for _, f := range []faults{{downs: 1}, {elections: 1}, {stops: 1}, {hiccups: 1}, {stops: 1, hiccups: 1}, {downs: 1, hiccups: 1}, {elections: 1, stops: 1}, {downs: 1, stops: 1}, {elections: 1, downs: 1}} {
		begin := time.Now()
		r, err := explore(scope{leader: nodeB, acceptor: nodeA, faults: f}, allRules)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("%s: %d states %d logs %v %s\n", f, r.States, r.Logs, time.Since(begin).Round(time.Millisecond), r.Broken)
		for i, l := range r.Story {
			fmt.Println("  ", i+1, l)
		}
	}
}
