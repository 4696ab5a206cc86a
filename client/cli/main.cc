// backprop: the command line of a backpropd server.
#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "client/cli/command.h"
#include "client/cli/completion.h"
#include "client/cli/note.h"
#include "client/cli/suggest.h"
#include "client/cli/table.h"

namespace {

using backprop::cli::Globals;

// The first Ctrl-C cancels the active call, the second one ends the program. A separate thread
// receives the signals, so that no code has to be async-signal-safe.
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

// Prints the help of a command that only groups others, or of the program itself, if it has no
// arguments. Returns whether it did.
bool ShowHelpWhenBare(const CLI::App& app) {
  const CLI::App* command = backprop::cli::ParsedCommand(&app);
  const bool bare = !backprop::cli::CommandNames(*command).empty() && app.remaining(true).empty();
  if (bare) std::printf("%s", app.help().c_str());
  return bare;
}

int ParseFailed(const CLI::App& app, const Globals& globals, const std::vector<std::string>& words,
                const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) {  // --help, --version
    return app.exit(error);
  }
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && ShowHelpWhenBare(app)) {
    return backprop::cli::kOk;
  }
  return globals.FailHere(backprop::cli::kUsage, "USAGE",
                          backprop::cli::ExplainUsage(app, words, error));
}

}  // namespace

int main(int argc, char** argv) {
  Globals globals;
  backprop::cli::Command chosen;
  CLI::App app;
  backprop::cli::BuildApp(&app, &globals, &chosen);
  // Errors are reported once, as a Status.
  gpr_set_log_function(+[](gpr_log_func_args*) {});
  if (argc > 1 && std::string(argv[1]) == "__complete") {
    for (const std::string& line : backprop::cli::Complete(app, {argv + 2, argv + argc})) {
      std::printf("%s\n", line.c_str());
    }
    return backprop::cli::kOk;
  }
  WatchForInterrupt(&globals);
  // Otherwise a thread of gRPC may still use OpenSSL when an exit handler destroys it. Its
  // threads start here, with the signals blocked.
  grpc_init();
  const absl::Cleanup shut_down = [] { grpc_shutdown_blocking(); };
  try {
    app.parse(argc, argv);
    backprop::cli::SetJsonNotes(globals.json);
    const int status = chosen();
    globals.PrintDocument();
    return status;
  } catch (const backprop::cli::DataError& error) {
    return globals.FailHere(backprop::cli::kFailed, "DATA", error.message);
  } catch (const CLI::ParseError& error) {
    // The flag may follow the word that could not be parsed.
    const std::vector<std::string> words(argv + 1, argv + argc);
    globals.json = std::count(words.begin(), words.end(), "--json") > 0;
    return ParseFailed(app, globals, words, error);
  }
}
