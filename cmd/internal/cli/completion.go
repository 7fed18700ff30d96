package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

func (p *Program) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use: "completion " + strings.Join(shells, "|"), Short: "Print a script that completes commands in a shell",
		Example:   "  source <(millstream completion bash)",
		ValidArgs: shells, Args: takes("SHELL"),
		RunE: func(c *cobra.Command, args []string) error {
			root := c.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(p.Out, true)
			case "zsh":
				return root.GenZshCompletion(p.Out)
			case "fish":
				return root.GenFishCompletion(p.Out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(p.Out)
			}
			return misuse(c, "shell %q: must be one of %s", args[0], strings.Join(shells, ", "))
		},
	}
}
