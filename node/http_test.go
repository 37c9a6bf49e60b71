package node

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Profiles are served where the node file says so, and nowhere else.
func TestPprof(t *testing.T) {
	for _, on := range []bool{false, true} {
		n := &Node{cfg: Config{HTTP: HTTPConfig{Pprof: on}}, registry: prometheus.NewRegistry()}
		want := http.StatusNotFound
		if on {
			want = http.StatusOK
		}
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine", "/debug/pprof/heap"} {
			answer := httptest.NewRecorder()
			n.routes().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
			if answer.Code != want {
				t.Errorf("pprof %v: %s answers %d, want %d", on, path, answer.Code, want)
			}
		}
	}
}
