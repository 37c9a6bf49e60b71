package node

import "testing"

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		descriptors uint64
		want        int
	}{{1 << 20, 1000}, {2856, 1000}, {1024, 84}, {956, 50}} {
		if got, err := (limits{descriptors: tt.descriptors}).clients(1000); got != tt.want || err != nil {
			t.Errorf("%d descriptors: %d clients, %v, want %d", tt.descriptors, got, err, tt.want)
		}
	}
	if _, err := (limits{descriptors: 256}).clients(1000); err == nil {
		t.Error("256 descriptors are enough for a node")
	}
	if l, err := systemLimits(); err != nil || l.descriptors == 0 {
		t.Errorf("%+v, %v", l, err)
	}
}
