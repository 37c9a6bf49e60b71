package admin

import (
	"slices"

	"holdfast/admin/configfile"
	pb "holdfast/proto/holdfast/v1"
)

// The key of a destination's password, which no file that is written has.
const passwordKey = "auth_password"

// withPasswords adds to what a destination was and is that its password is another
// one, if it is, and never which.
func withPasswords(old, now []configfile.Value, before, after *pb.DestinationConfig) (was, is []configfile.Value) {
	if before.AuthPassword == after.AuthPassword {
		return old, now
	}
	return append(old, configfile.Value{Key: passwordKey, Text: secret(before.AuthPassword, "old")}),
		append(now, configfile.Value{Key: passwordKey, Text: secret(after.AuthPassword, "new")})
}

// secret stands for a password that isn't shown.
func secret(password, which string) string {
	if password == "" {
		return ""
	}
	return "(the " + which + " one)"
}

// losesPassword reports whether a difference overwrites or removes the password that
// a destination has now. One that leaves it be may be of a file from before it was set.
func losesPassword(d *pb.ConfigurationDifference) bool {
	return d.Kind == configfile.Destination && (d.Action == pb.ConfigurationDifference_ACTION_REMOVE ||
		slices.ContainsFunc(d.Values, func(v *pb.ConfigurationDifference_Value) bool { return v.Key == passwordKey }))
}
