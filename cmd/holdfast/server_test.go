package main

import (
	"strings"
	"testing"
	"time"

	"holdfast/node"
)

// Durations are seconds in either format: bare nanoseconds tell nobody anything.
func TestLogHasSeconds(t *testing.T) {
	for format, want := range map[string]string{"json": `"delay":1.5`, "text": "delay=1.5"} {
		var out strings.Builder
		newLogger(&out, node.LogConfig{Level: "info", Format: format}).Info("line", "delay", 1500*time.Millisecond)
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %s", format, out.String())
		}
	}
}
