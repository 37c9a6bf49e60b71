package fsm

import (
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Short by default; -rapid.checks on the command line comes after this.
	if err := flag.Set("rapid.checks", "20"); err != nil {
		panic(err)
	}
	code := m.Run()
	if code == 0 {
		// Pebble doesn't close a file whose write failed, and each is watched.
		if err := goleak.Find(goleak.IgnoreAnyFunction(
			"github.com/cockroachdb/pebble/v2/vfs.(*diskHealthCheckingFile).startTicker.func1",
		)); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}
