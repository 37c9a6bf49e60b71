package main

import (
	"errors"
	"fmt"
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

// Who keeps the process starts it again after a failure, and not after its removal.
func TestLastWords(t *testing.T) {
	removed := fmt.Errorf("node c %w: it stops", node.ErrRemoved)
	if line, status := lastWords(removed); status != exitDone || line != "holdfast: node c was removed from the cluster: it stops" {
		t.Errorf("%q, status %d", line, status)
	}
	if line, status := lastWords(errors.New("fsync failed")); status != exitFailed || !strings.Contains(line, "can't go on: fsync failed") {
		t.Errorf("%q, status %d", line, status)
	}
}
