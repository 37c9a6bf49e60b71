//go:build !linux

package smtpout

import "net"

// readable can't be told without Linux' sockets: a dead connection shows
// itself at MAIL, and Result.Stale says so.
func readable(net.Conn) bool { return false }

// acknowledged can't be told: AbortUnlessCommitted takes it as not.
func acknowledged(net.Conn) bool { return false }
