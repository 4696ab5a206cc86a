// What all commands share.
#ifndef BACKPROP_CLIENT_CLI_COMMAND_H_
#define BACKPROP_CLIENT_CLI_COMMAND_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>

#include "backprop/client.h"

namespace backprop::cli {

inline constexpr int kOk = 0;
inline constexpr int kFailed = 1;         // an RPC or the data
inline constexpr int kUsage = 2;          // the command line
inline constexpr int kInterrupted = 130;  // Ctrl-C, as shells say it

// The flags before the command, and what comes of them.
struct Globals {
  std::string server = "127.0.0.1:50051";
  std::optional<double> timeout_seconds;
  bool no_proxy = false;
  double keepalive_time_seconds = 10;  // 0: no pings
  double keepalive_timeout_seconds = 10;
  bool json = false;
  Cancellation interrupt;  // is cancelled by Ctrl-C

  // With --json every reply is printed as it comes. By default a server that is not there is told
  // soon; long work bears that it is away for some seconds.
  static constexpr int kSoon = 5;
  static constexpr int kPatiently = 8;
  Client Connect(int attempts = kSoon) const;
  CallOptions Call() const;
  // Prints "CODE: message" to standard error and returns the exit status.
  int Fail(const Status& status) const;
};

// The command that was chosen; it runs after the command line has been read. May throw DataError.
using Command = std::function<int()>;

void AddModelCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddTrainingCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddStepCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddReadingCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddParametersCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddCheckpointCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddDatasetCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddFileCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddServerCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddDemoCommand(CLI::App* app, Globals* globals, Command* chosen);

// One message as one line of JSON, in the contract's JSON names.
std::string JsonLine(const google::protobuf::Message& message);

// The table of a gradient check, and a last line with the verdict.
std::string GradCheckTable(const GradCheckResult& result);

bool IsTerminal();  // standard output

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_COMMAND_H_
