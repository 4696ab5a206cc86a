#include "client/cli/completion.h"

namespace backprop::cli {

std::string CompletionScript(const std::string& shell) {
  if (shell == "bash") {
    return R"sh(# Completion of backprop in bash: source <(backprop completion bash)
_backprop() {
  local line files= cur=${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == ":files" ]]; then files=1; else COMPREPLY+=("${line%%$'\t'*}"); fi
  done < <("${COMP_WORDS[0]/#\~/$HOME}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  [[ -n $files ]] || return 0
  compopt -o filenames 2>/dev/null
  [[ $cur == "=" ]] && cur=
  while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur")
}
complete -F _backprop backprop
)sh";
  }
  if (shell == "zsh") {
    return R"sh(#compdef backprop
# Completion of backprop in zsh: source <(backprop completion zsh), or a file _backprop in $fpath.
_backprop() {
  local line word files=
  local -a candidates
  for line in "${(@f)$(${~words[1]} __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    [[ -z $line ]] && continue
    if [[ $line == ":files" ]]; then files=1; continue; fi
    word=${line%%$'\t'*}
    if [[ $line == *$'\t'* ]]; then
      candidates+=("${word//:/\\:}:${line#*$'\t'}")
    else
      candidates+=("${word//:/\\:}")
    fi
  done
  (( $#candidates )) && _describe backprop candidates
  [[ -n $files ]] && _files
  return 0
}
if [[ $funcstack[1] == _backprop ]]; then _backprop "$@"; else compdef _backprop backprop; fi
)sh";
  }
  if (shell == "fish") {
    return R"sh(# Completion of backprop in fish: backprop completion fish | source
function __backprop_complete
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  for line in ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
    if test "$line" = ":files"
      __fish_complete_path "$current"
    else
      echo $line
    end
  end
end
complete -c backprop -f -a '(__backprop_complete)'
)sh";
  }
  return "";
}

}  // namespace backprop::cli
