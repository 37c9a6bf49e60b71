package relay

import "testing"

func TestRefusesRecipient(t *testing.T) {
	for _, tt := range []struct {
		code     int
		enhanced string
		want     bool
	}{
		{550, "5.1.1", true}, {553, "5.1.3", true}, {550, "5.1.10", true}, {550, "5.2.1", true},
		{550, "", true}, {551, "", true}, {553, "", true},
		{450, "4.1.1", false}, {250, "2.1.5", false},
		{554, "5.7.1", false}, {550, "5.7.23", false}, {553, "5.1.8", false}, {553, "5.1.7", false},
		{552, "5.2.2", false}, {503, "5.5.1", false}, {530, "5.7.0", false}, {530, "", false}, {554, "", false},
	} {
		if got := RefusesRecipient(tt.code, tt.enhanced); got != tt.want {
			t.Errorf("%d %s: %v", tt.code, tt.enhanced, got)
		}
	}
}
