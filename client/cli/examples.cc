#include "client/cli/examples.h"

#include <array>
#include <string>
#include <string_view>

namespace backprop::cli {
namespace {

// Empty elements at the end of an array are not used.
struct CommandExamples {
  std::array<std::string_view, 2> command;  // {"dataset", "upload"}
  std::array<std::string_view, 3> lines;
};

// In an order in which they can be run one after another, in a directory with a points.csv that has
// two features and a label.
constexpr CommandExamples kExamples[] = {
    {{"demo"}, {"backprop demo", "backprop demo --model my-demo --seed 7"}},
    {{"create"},
     {"backprop create xor --inputs 2 --layers 8,2 --learning-rate 0.1",
      "backprop create sine --inputs 1 --layers 16:tanh,1 --loss mean_squared_error --optimizer "
      "adam",
      "backprop create pets --inputs 2 --layers 8,2 --class-names cat,dog --label team=vets"}},
    {{"list"},
     {"backprop list", "backprop list --label team=vets --quiet",
      "backprop list --json | jq -r '.models[].name'"}},
    {{"get"}, {"backprop get xor"}},
    {{"train"},
     {"backprop train xor --data xor --iterations 3000",
      "backprop train xor --data points.csv --epochs 20 --batch-size 32 --validation-split 0.2",
      "backprop train xor --data xor --iterations 100000000 --detach"}},
    {{"stop"}, {"backprop stop xor"}},
    {{"watch"}, {"backprop watch xor", "backprop watch xor --json | tail -n 1"}},
    {{"step"}, {"backprop step xor --data points.csv", "backprop step xor --data - < points.csv"}},
    {{"step-stream"}, {"backprop step-stream xor --data points.csv --steps 100 --batch-size 2"}},
    {{"gradients"},
     {"backprop gradients compute xor --data points.csv --output g.json",
      "backprop gradients apply xor --input g.json"}},
    {{"gradients", "compute"},
     {"backprop gradients compute xor --data points.csv --output g.json"}},
    {{"gradients", "apply"}, {"backprop gradients apply xor --input g.json --input g.json"}},
    {{"predict"},
     {"backprop predict xor --row 0.5,0.5 --row=-0.5,0.5",
      "backprop predict xor --data points.csv --classes"}},
    {{"evaluate"},
     {"backprop evaluate xor --data points.csv",
      "backprop evaluate xor --data xor --summary-only"}},
    {{"grad-check"}, {"backprop grad-check xor --data xor"}},
    {{"parameters"},
     {"backprop parameters get xor --output xor.json",
      "backprop parameters set xor --input xor.json"}},
    {{"parameters", "get"}, {"backprop parameters get xor --weights-only"}},
    {{"parameters", "set"}, {"backprop parameters set xor --input xor.json"}},
    {{"checkpoint"},
     {"backprop checkpoint create xor before", "backprop checkpoint restore xor before"}},
    {{"checkpoint", "create"}, {"backprop checkpoint create xor monday"}},
    {{"checkpoint", "list"}, {"backprop checkpoint list xor"}},
    {{"checkpoint", "restore"}, {"backprop checkpoint restore xor monday"}},
    {{"checkpoint", "delete"}, {"backprop checkpoint delete xor monday before"}},
    {{"dataset"},
     {"backprop dataset upload circles --data circles --n 1000",
      "backprop train xor --dataset circles --epochs 5"}},
    {{"dataset", "upload"},
     {"backprop dataset upload points --data points.csv",
      "backprop dataset upload line --data points.csv --target-columns 1 --float64"}},
    {{"dataset", "list"}, {"backprop dataset list"}},
    {{"dataset", "get"}, {"backprop dataset get points"}},
    {{"dataset", "delete"}, {"backprop dataset delete points line"}},
    {{"export"}, {"backprop export xor xor.model"}},
    {{"import"}, {"backprop import xor.model xor-copy"}},
    {{"backup"}, {"backprop backup all.backup"}},
    {{"restore"}, {"backprop --server localhost:50052 restore all.backup"}},
    {{"project"}, {"backprop project list", "backprop project get default"}},
    {{"project", "list"}, {"backprop project list"}},
    {{"project", "get"}, {"backprop project get default"}},
    {{"health"}, {"backprop health"}},
    {{"top"}, {"backprop top --once", "backprop top --interval 0.5 --json | head -n 2"}},
    {{"debug"}, {"backprop debug", "backprop debug --output report.zip"}},
    {{"token"}, {"backprop token create --name ci --project team-a --role writer"}},
    {{"token", "create"},
     {"backprop token create --name ci --project team-a --role writer",
      "backprop token create --name anna --role operator --output token"}},
    {{"context"}, {"backprop context list", "backprop --context prod health"}},
    {{"context", "list"}, {"backprop context list"}},
    {{"context", "use"}, {"backprop context use prod"}},
    {{"version"}, {"backprop version"}},
    {{"completion"},
     {"source <(backprop completion bash)", "backprop completion zsh > \"${fpath[1]}/_backprop\"",
      "backprop completion fish > ~/.config/fish/completions/backprop.fish"}},
    {{"delete"}, {"backprop delete xor xor-copy", "backprop delete --label team=vets --yes"}},
};

}  // namespace

void AddExamples(CLI::App* app) {
  for (const CommandExamples& of : kExamples) {
    CLI::App* command = app;
    for (const std::string_view name : of.command) {
      if (!name.empty()) command = command->get_subcommand(std::string(name));
    }
    std::string footer = of.lines[1].empty() ? "Example:" : "Examples:";
    for (const std::string_view line : of.lines) {
      if (!line.empty()) footer.append("\n  ").append(line);
    }
    command->footer(footer);
  }
}

}  // namespace backprop::cli
