package race

import "testing"

// Sequential leaves a long test, which has one goroutine, to the second pass.
func Sequential(t *testing.T) {
	t.Helper()
	if Enabled {
		t.Skip("long, and of one goroutine: without the race detector")
	}
}
