package race

import "testing"

// Sequential leaves a long test to the second pass: it starts no goroutine, and
// others run the same code beside Pebble's with the race detector.
func Sequential(t *testing.T) {
	t.Helper()
	if Enabled {
		t.Skip("long, and starts no goroutine: without the race detector")
	}
}
