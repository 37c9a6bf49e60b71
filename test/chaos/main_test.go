package main

import (
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	if o, err := parse([]string{"-short"}); err != nil || o.duration != 20*time.Second || o.held != 300 || o.kills != 5 {
		t.Errorf("-short gives %+v, %v", o, err)
	}
	o, err := parse([]string{"-run", "install,kill"})
	if err != nil {
		t.Fatal(err)
	}
	if chosen, err := o.chosen(); err != nil || len(chosen) != 2 || chosen[0].name != "kill" || chosen[1].name != "install" {
		t.Errorf("chosen %v, %v", chosen, err)
	}
	for _, args := range [][]string{{"-run", "x"}, {"-run", "kill,x"}, {"more"}, {"-duration", "1s"}, {"-held", "0"}, {"-kills", "0"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
