// The command line: global flags and all commands.
#include "bp_version.h"
#include "client/cli/command.h"
#include "client/cli/connection.h"
#include "client/cli/examples.h"

namespace backprop::cli {
namespace {

// Lets a repeatable flag take one value at a time, so that in `--row 1,2 xor` the model is not
// taken as a row.
void TakeOneValueEach(CLI::App* app) {
  for (CLI::Option* option : app->get_options()) {
    const bool repeatable = option->get_items_expected_max() > 1 && !option->get_positional();
    if (repeatable) option->allow_extra_args(false);
  }
  for (CLI::App* command : app->get_subcommands([](CLI::App*) { return true; })) {
    TakeOneValueEach(command);
  }
}

}  // namespace

void BuildApp(CLI::App* app, Globals* globals, Command* chosen) {
  app->name("backprop");
  app->description("backprop: create, train and use models on a backpropd server.");
  app->require_subcommand(1);
  app->fallthrough();
  app->set_version_flag("--version",
                        std::string("backprop ") + kVersion + " (commit " + kCommit + ")",
                        "Print version and commit");
  AddConnectionFlags(app, &globals->connection);
  app->add_option("--timeout", globals->timeout_seconds, "Time limit of each call; default: none")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 1e9));
  app->add_flag(
      "--no-proxy", globals->no_proxy,
      "Ignore http_proxy and similar variables; loopback and Unix sockets never use a proxy");
  app->add_option("--keepalive-time", globals->keepalive_time_seconds,
                  "Idle time after which the server is pinged; 0: never")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  app->add_option("--keepalive-timeout", globals->keepalive_timeout_seconds,
                  "Reconnect if a ping is not answered within this time")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 86400.0))
      ->capture_default_str();
  app->add_flag("--json", globals->json,
                "Print results as one JSON document (train, watch, step-stream and top: one "
                "line per event), and errors as JSON on standard error");
  AddDemoCommand(app, globals, chosen);
  AddModelCommands(app, globals, chosen);
  AddTrainingCommands(app, globals, chosen);
  AddStepCommands(app, globals, chosen);
  AddReadingCommands(app, globals, chosen);
  AddParametersCommands(app, globals, chosen);
  AddCheckpointCommands(app, globals, chosen);
  AddDatasetCommands(app, globals, chosen);
  AddProjectCommands(app, globals, chosen);
  AddFileCommands(app, globals, chosen);
  AddContextCommands(app, globals, chosen);
  AddServerCommands(app, globals, chosen);
  AddTopCommand(app, globals, chosen);
  AddDebugCommand(app, globals, chosen);
  AddTokenCommands(app, globals, chosen);
  AddCompletionCommands(app, globals, chosen);
  TakeOneValueEach(app);
  AddExamples(app);
  app->footer(
      "Examples:\n"
      "  backprop demo\n"
      "  backprop create xor --inputs 2 --layers 8,2 --learning-rate 0.1\n"
      "  backprop train xor --data xor --iterations 3000\n"
      "  backprop predict xor --row 0.5,0.5 --row 0.5,-0.5\n"
      "`backprop COMMAND --help` lists the flags of a command and shows examples.\n"
      "Exit status: 0 success; 1 error of the server or the data; 2 wrong usage; 130 Ctrl-C.");
}

}  // namespace backprop::cli
