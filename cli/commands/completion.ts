import type { Command } from 'commander'
import { choiceArgument, examples } from '../command.ts'
import type { Run } from '../deps.ts'

export function completionCommand(program: Command, run: Run): void {
  program
    .command('completion')
    .description('Print a script that teaches a shell to complete commands, profiles and ids')
    .addArgument(choiceArgument('<shell>', 'the shell', Object.keys(scripts)))
    .addHelpText(
      'before',
      examples(
        'source <(1ctl completion bash)                                    # now; in ~/.bashrc for ever',
        'source <(1ctl completion zsh)                                     # in ~/.zshrc, after compinit',
        '1ctl completion fish > ~/.config/fish/completions/1ctl.fish',
        '1ctl completion powershell | Out-String | Invoke-Expression       # in $PROFILE',
      ),
    )
    .action(run(({ shell }: { shell: keyof typeof scripts }, { out }) => out.text(scripts[shell].trim())))
}

// Each asks `1ctl __complete`, whose last word is the one under the cursor.
const scripts = {
  // Bash takes `:` and `=` for ends of words. So the line is split here, and what bash has already is cut off the answers. It may be
  // bash 3.2, which macOS has.
  bash: `
_1ctl_completion() {
  local line="\${COMP_LINE:0:COMP_POINT}" words IFS=$' \\t\\n'
  read -ra words <<< "$line"
  [[ $line == *[[:space:]] ]] && words+=('')
  local typed="\${words[\${#words[@]}-1]}" IFS=$'\\n'
  COMPREPLY=($(1ctl __complete bash "\${words[@]:1}" 2>/dev/null))
  local had="\${typed%"\${typed##*[:=]}"}"
  COMPREPLY=("\${COMPREPLY[@]#"$had"}")
}
complete -o default -F _1ctl_completion 1ctl`,

  zsh: `
_1ctl() {
  local -a candidates
  candidates=("\${(@f)$(1ctl __complete zsh "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  [[ -n $candidates ]] && _describe 1ctl candidates
}
compdef _1ctl 1ctl`,

  fish: `
function __1ctl_complete
  set -l words (commandline -opc)
  set -e words[1]
  1ctl __complete fish $words (commandline -ct) 2>/dev/null
end
complete -c 1ctl -f -a '(__1ctl_complete)'`,

  powershell: `
Register-ArgumentCompleter -Native -CommandName 1ctl -ScriptBlock {
  param($typed, $ast, $cursor)
  $words = @($ast.CommandElements | Select-Object -Skip 1 | Where-Object { $_.Extent.EndOffset -lt $cursor } | ForEach-Object { "$_" })
  $last = if ($typed) { $typed } else { '""' }
  1ctl __complete powershell @words $last 2>$null | ForEach-Object {
    $word, $about = $_ -split "\`t", 2
    if (-not $about) { $about = $word }
    [System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $about)
  }
}`,
}
