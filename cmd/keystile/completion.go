package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"One of ${enum}."`
}

// Help is the long help of the verb.
func (c *completionCmd) Help() string {
	return `Put it where the shell reads it at its start:

  bash: echo 'eval "$(keystile completion bash)"' >> ~/.bashrc
  zsh:  echo 'eval "$(keystile completion zsh)"' >> ~/.zshrc (below compinit)
  fish: keystile completion fish > ~/.config/fish/completions/keystile.fish`
}

// The scripts ask the program itself what could stand at the cursor, so that
// they never fall behind it. Where it knows nothing, files are offered.
const (
	bashCompletion = `_keystile() {
	local IFS=$'\n'
	COMPREPLY=($("${COMP_WORDS[0]/#\~/$HOME}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o bashdefault -o default -F _keystile keystile
`
	zshCompletion = `#compdef keystile
_keystile() {
	local -a candidates
	candidates=("${(@f)$(${~words[1]} complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -n "$candidates[1]" ]]; then
		compadd -a candidates
	else
		_files
	fi
}
if [[ "$funcstack[1]" == _keystile ]]; then
	_keystile "$@"
else
	compdef _keystile keystile
fi
`
	fishCompletion = `function __keystile_complete
	set -l words (commandline -opc)
	set -l candidates ($words[1] complete -- $words[2..-1] (commandline -ct) 2>/dev/null)
	if test (count $candidates) -gt 0
		printf '%s\n' $candidates
	else
		__fish_complete_path (commandline -ct)
	end
end
complete -c keystile -f -a '(__keystile_complete)'
`
)

// Run prints the script.
func (c *completionCmd) Run(a *app) error {
	script := bashCompletion
	switch c.Shell {
	case "zsh":
		script = zshCompletion
	case "fish":
		script = fishCompletion
	}
	_, err := fmt.Fprint(a.stdout, script)
	return err
}

// completeCmd is what the scripts call: the words of a command line behind the
// program's name, the one at the cursor last.
type completeCmd struct {
	Words []string `arg:"" optional:"" passthrough:""`
}

// Run prints what the last word could become, one a line.
func (c *completeCmd) Run(a *app, k *kong.Context) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, candidate := range candidates(k.Model.Node, words) {
		fmt.Fprintln(a.stdout, candidate)
	}
	return nil
}

// candidates lists what the last of the words could become, given those before.
func candidates(node *kong.Node, words []string) []string {
	// bash makes three words of --status=active.
	isEqual := func(w string) bool { return w == "=" }
	if len(words) == 0 || isEqual(words[len(words)-1]) {
		words = append(slices.Clone(words), "")
	}
	words = slices.DeleteFunc(slices.Clone(words), isEqual)
	before, last := words[:len(words)-1], words[len(words)-1]
	var value *kong.Flag // the flag whose value comes next
	arguments := 0
	for _, w := range before {
		switch {
		case value != nil:
			value = nil
		case strings.HasPrefix(w, "-") && w != "-":
			name, _, has := strings.Cut(w, "=")
			if f := flagCalled(node, name); f != nil && !f.IsBool() && !has {
				value = f
			}
		default:
			if child := childCalled(node, w); child != nil {
				node = child
			} else {
				arguments++
			}
		}
	}
	name, part, has := strings.Cut(last, "=")
	switch {
	case value != nil:
		return beginning(last, "", value.EnumSlice())
	case strings.HasPrefix(last, "-") && has:
		if f := flagCalled(node, name); f != nil {
			return beginning(part, name+"=", f.EnumSlice())
		}
		return nil
	case strings.HasPrefix(last, "-"):
		return beginning(last, "", flagNames(node))
	case len(node.Children) > 0:
		return beginning(last, "", childNames(node))
	case arguments < len(node.Positional):
		return beginning(last, "", node.Positional[arguments].EnumSlice())
	}
	return nil
}

// beginning returns those of the texts that begin with part, each behind prefix.
func beginning(part, prefix string, texts []string) []string {
	var fit []string
	for _, t := range texts {
		if t != "" && strings.HasPrefix(t, part) {
			fit = append(fit, prefix+t)
		}
	}
	return fit
}

func childCalled(node *kong.Node, name string) *kong.Node {
	for _, c := range node.Children {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func childNames(node *kong.Node) []string {
	var names []string
	for _, c := range node.Children {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}

func flagCalled(node *kong.Node, name string) *kong.Flag {
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			if "--"+f.Name == name || f.Short != 0 && "-"+string(f.Short) == name {
				return f
			}
		}
	}
	return nil
}

func flagNames(node *kong.Node) []string {
	var names []string
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			names = append(names, "--"+f.Name)
		}
	}
	return names
}
