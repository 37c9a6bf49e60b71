package harness

import (
	"net/netip"
	"testing"
)

// What is given out is nobody else's until our end, whether or not somebody listens.
func TestAddressesAreGivenOnce(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		addresses, err := FreeAddresses(4)
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range addresses {
			if seen[address] {
				t.Errorf("%s was given twice", address)
			}
			seen[address] = true
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				t.Fatal(err)
			}
			if at.Port() < 20000 || at.Port() >= 32768 {
				t.Errorf("%s is out of range", address)
			}
			if file := take(int(at.Port())); file != nil { // as another process does
				t.Errorf("%s can be taken", address)
				file.Close()
			}
		}
	}
}
