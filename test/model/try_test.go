package model

import ("testing";"time";"fmt")

func TestTry(t *testing.T) {
	for _, f := range []faults{{},{downs:1},{elections:1},{stops:1},{hiccups:1},{downs:1,hiccups:1},{downs:1,stops:1},{downs:1,stops:1,elections:1}} {
		for _, s := range []scope{{leader:nodeA,acceptor:nodeA,faults:f},{leader:nodeB,acceptor:nodeA,faults:f}} {
			begin := time.Now()
			r, err := explore(s, allRules)
			if err != nil { t.Fatal(err) }
			fmt.Printf("%+v %s: %d states %d logs %v %s\n", f, r.Scope, r.States, r.Logs, time.Since(begin).Round(time.Millisecond), r.Broken)
			for i, l := range r.Story { fmt.Println("  ", i+1, l) }
		}
	}
}
