// Package architecture has only tests: they read the source of the module and
// hold the rules that no compiler knows, each with the reason in its message.
package architecture
