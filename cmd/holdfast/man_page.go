package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// exitStatuses is what every page says of them; a command whose exit status says
// more tells so in its description.
const exitStatuses = `0 done, 1 failed, 2 usage, 3 not found, 4 no quorum or no answer from a node.`

// manPage is a command's page in the macros of man(7). The texts of --help are
// plain text and not Markdown, so that they are set here and not by way of it:
// an indented line is a table or an example, and stays as it is.
func manPage(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s %s \"\" \"holdfast %s\" \"Holdfast\"\n.nh\n.ad l\n",
		roff(strings.ToUpper(manName(cmd))), manSection, roff(versionString()))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(manName(cmd)), roff(cmd.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(synopsis(cmd)))
	if text := strings.TrimSpace(cmd.Long); text != "" {
		b.WriteString(".SH DESCRIPTION\n" + roffText(text))
	}
	manCommands(&b, cmd)
	manFlags(&b, "OPTIONS", cmd.NonInheritedFlags())
	manFlags(&b, "OPTIONS OF EVERY COMMAND", cmd.InheritedFlags())
	b.WriteString(".SH EXIT STATUS\n" + roff(exitStatuses) + "\n")
	if cmd.Example != "" {
		b.WriteString(".SH EXAMPLES\n.nf\n" + roffLines(unindented(cmd.Example)) + ".fi\n")
	}
	manSeeAlso(&b, cmd)
	return b.String()
}

func synopsis(cmd *cobra.Command) string {
	if cmd.HasAvailableSubCommands() {
		return cmd.CommandPath() + " COMMAND"
	}
	return cmd.UseLine()
}

func manCommands(b *strings.Builder, cmd *cobra.Command) {
	if !cmd.HasAvailableSubCommands() {
		return
	}
	b.WriteString(".SH COMMANDS\n")
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() {
			fmt.Fprintf(b, ".TP\n.B %s\n%s, see\n.BR %s (%s).\n", roff(child.Name()), roff(child.Short), roff(manName(child)), manSection)
		}
	}
}

func manFlags(b *strings.Builder, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	b.WriteString(".SH " + title + "\n")
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Hidden || flag.Deprecated != "" {
			return
		}
		value, about := pflag.UnquoteUsage(flag)
		name := "\\fB" + roff("--"+flag.Name) + "\\fR"
		if flag.Shorthand != "" {
			name = "\\fB" + roff("-"+flag.Shorthand) + "\\fR, " + name
		}
		switch {
		case flag.NoOptDefVal != "" && value != "":
			name += "[=\\fI" + roff(value) + "\\fR]"
		case value != "":
			name += " \\fI" + roff(value) + "\\fR"
		}
		if isGiven(flag.DefValue) {
			about += " (default " + flag.DefValue + ")"
		}
		fmt.Fprintf(b, ".TP\n%s\n%s\n", name, roff(about))
	})
}

// isGiven reports whether a flag's default says anything.
func isGiven(value string) bool {
	switch value {
	case "", "0", "false", "[]":
		return false
	}
	return true
}

func manSeeAlso(b *strings.Builder, cmd *cobra.Command) {
	var pages []string
	add := func(c *cobra.Command) {
		pages = append(pages, fmt.Sprintf(".BR %s (%s)", roff(manName(c)), manSection))
	}
	if cmd.HasParent() {
		add(cmd.Parent())
		for _, sibling := range cmd.Parent().Commands() {
			if sibling != cmd && sibling.IsAvailableCommand() && cmd.Parent().HasParent() {
				add(sibling)
			}
		}
	}
	if len(pages) > 0 {
		b.WriteString(".SH SEE ALSO\n" + strings.Join(pages, " ,\n") + "\n")
	}
}

// roffText sets plain text: paragraphs are filled, lines that are indented stay as
// they are.
func roffText(text string) string {
	var b strings.Builder
	verbatim := false
	set := func(on bool) {
		if on != verbatim {
			b.WriteString(map[bool]string{true: ".RS 2\n.nf\n", false: ".fi\n.RE\n"}[on])
		}
		verbatim = on
	}
	for _, line := range strings.Split(text, "\n") {
		switch {
		case strings.TrimSpace(line) == "":
			set(false)
			b.WriteString(".PP\n")
		case strings.HasPrefix(line, " "):
			set(true)
			b.WriteString(roffLines(strings.TrimRight(strings.TrimPrefix(line, "  "), " ")))
		default:
			set(false)
			b.WriteString(roffLines(line))
		}
	}
	set(false)
	return b.String()
}

func roffLines(text string) string {
	var b strings.Builder
	for _, line := range strings.Split(text, "\n") {
		b.WriteString(roff(line) + "\n")
	}
	return b.String()
}

// roff escapes what would be taken for a request, an escape, or a typographer's
// dash or quotation mark: what is copied from a page must work.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "…", "...").Replace(text)
	if strings.HasPrefix(text, ".") {
		return `\&` + text
	}
	return text
}

func unindented(text string) string {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "  ")
	}
	return strings.Join(lines, "\n")
}
