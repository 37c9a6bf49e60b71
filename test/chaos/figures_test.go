package main

import (
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	var hundred times
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, c := range []struct {
		of   times
		q    float64
		want time.Duration
	}{
		{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {hundred, 0, 1},
		{times{7}, 0.99, 7}, {times{1, 2, 3}, 0.99, 3}, {times{1, 2, 3}, 0.5, 2}, {nil, 0.5, 0},
	} {
		if got := c.of.quantile(c.q); got != c.want {
			t.Errorf("quantile %v of %d: %v, want %v", c.q, len(c.of), got, c.want)
		}
	}
}
