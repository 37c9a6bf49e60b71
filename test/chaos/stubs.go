package main
import ("context";"io")
func awayRun(context.Context, options, io.Writer) error {return nil}
func installRun(context.Context, options, io.Writer) error {return nil}
func memoryRun(context.Context, options, io.Writer) error {return nil}
