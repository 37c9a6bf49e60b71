package admin

import (
	"log/slog"
	"testing"

	"google.golang.org/grpc"

	pb "holdfast/proto/holdfast/v1"
)

// The table has every method that a node serves, and none that it doesn't: a
// method that somebody adds is nobody's to call until it is decided whose.
func TestPermissionsAreComplete(t *testing.T) {
	server := grpc.NewServer()
	Register(server, Config{Logger: slog.New(slog.DiscardHandler)})
	pb.RegisterPeerServiceServer(server, pb.UnimplementedPeerServiceServer{})
	served := map[string]bool{}
	for service, info := range server.GetServiceInfo() {
		for _, method := range info.Methods {
			name := "/" + service + "/" + method.Name
			served[name] = true
			if _, decided := permissions[name]; !decided {
				t.Errorf("%s is not in permissions: say what it takes", name)
			}
		}
	}
	for name, needs := range permissions {
		if !served[name] {
			t.Errorf("%s is in permissions and nobody serves it", name)
		}
		if ways := count(needs.open, needs.nodes, needs.role != 0); ways != 1 {
			t.Errorf("%s is open, for nodes, or for a role: it says %d of these", name, ways)
		}
		if needs.limited && (needs.role == 0 || needs.role == admin) {
			t.Errorf("%s: nobody who has its role is limited to domains", name)
		}
	}
}

func count(all ...bool) (n int) {
	for _, one := range all {
		if one {
			n++
		}
	}
	return n
}
