// backprop: the command line of a backpropd server.
#include <grpc/support/log.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <thread>

#include "client/cli/command.h"
#include "client/cli/table.h"

namespace {

using backprop::cli::Globals;

// The first Ctrl-C cancels the call under way, the second one ends the program. Signals are taken
// by a thread of their own, so that no handler has to be careful.
void WatchForInterrupt(Globals* globals) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals, interrupt = globals->interrupt]() mutable {
    int signal = 0;
    sigwait(&signals, &signal);
    interrupt.Cancel();
    sigwait(&signals, &signal);
    _exit(backprop::cli::kInterrupted);
  }).detach();
}

}  // namespace

int main(int argc, char** argv) {
  Globals globals;
  backprop::cli::Command chosen;
  CLI::App app("backprop: create, train and use models on a backpropd server.", "backprop");
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--server", globals.server, "host:port or unix:path")
      ->envname("BACKPROP_SERVER")
      ->capture_default_str();
  app.add_option("--timeout", globals.timeout_seconds, "Give up after so long")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 1e9));
  app.add_flag("--no-proxy", globals.no_proxy,
               "Ignore http_proxy and the like; loopback and unix sockets never use them");
  app.add_option("--keepalive-time", globals.keepalive_time_seconds,
                 "Ping a server that says nothing for so long; 0: never")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  app.add_option("--keepalive-timeout", globals.keepalive_timeout_seconds,
                 "Connect again when a ping is not answered for so long")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 86400.0))
      ->capture_default_str();
  app.add_flag("--json", globals.json, "Print every reply as a line of JSON");
  app.footer(
      "Try:  backprop demo\n"
      "      backprop create xor --inputs 2 --layers 8,2 --learning-rate 0.1\n"
      "      backprop train xor --data xor --iterations 3000\n"
      "      backprop predict xor --row 0.5,0.5 --row 0.5,-0.5\n"
      "Exit status: 0; 1 for an error of the server or the data; 2 for wrong usage; 130 after "
      "Ctrl-C.");
  backprop::cli::AddDemoCommand(&app, &globals, &chosen);
  backprop::cli::AddModelCommands(&app, &globals, &chosen);
  backprop::cli::AddTrainingCommands(&app, &globals, &chosen);
  backprop::cli::AddStepCommands(&app, &globals, &chosen);
  backprop::cli::AddReadingCommands(&app, &globals, &chosen);
  backprop::cli::AddParametersCommands(&app, &globals, &chosen);
  backprop::cli::AddCheckpointCommands(&app, &globals, &chosen);
  backprop::cli::AddDatasetCommands(&app, &globals, &chosen);
  backprop::cli::AddFileCommands(&app, &globals, &chosen);
  backprop::cli::AddServerCommands(&app, &globals, &chosen);
  // Errors are told once, as a Status.
  gpr_set_log_function(+[](gpr_log_func_args*) {});
  WatchForInterrupt(&globals);
  try {
    app.parse(argc, argv);
    return chosen();
  } catch (const backprop::cli::DataError& error) {
    std::fprintf(stderr, "%s\n", error.message.c_str());
    return backprop::cli::kFailed;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? backprop::cli::kOk : backprop::cli::kUsage;
  }
}
