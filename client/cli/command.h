// What all commands share.
#ifndef BACKPROP_CLIENT_CLI_COMMAND_H_
#define BACKPROP_CLIENT_CLI_COMMAND_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "backprop/client.h"
#include "client/cli/json_output.h"

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

  // By default a server that is not there is told soon; long work bears that it is away for some
  // seconds.
  static constexpr int kSoon = 5;
  static constexpr int kPatiently = 8;
  // What --json does with the replies of a client: joins them to the command's document, prints
  // each as a line when it comes, or nothing.
  enum class Replies { kDocument, kLines, kHidden };
  Client Connect(int attempts = kSoon, Replies replies = Replies::kDocument) const;
  // For what a command asks on the way to its answer.
  Client ConnectHidden() const { return Connect(kSoon, Replies::kHidden); }
  CallOptions Call() const;
  // With --json prints the document, `text` if a command makes its own instead of its replies.
  void PrintDocument() const;
  void SetDocument(const std::string& text) const { *own_document_ = text; }
  // Prints an error to standard error, "CODE: message" or with --json as JSON, and returns the exit
  // status.
  int Fail(const Status& status, const std::string& more = "") const;
  // The same for errors that are not the server's: of the data, or of the command line.
  int FailHere(int exit_status, const std::string& reason, const std::string& message) const;

 private:
  std::shared_ptr<JsonDocument> document_ = std::make_shared<JsonDocument>();
  std::shared_ptr<std::string> own_document_ = std::make_shared<std::string>();
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
void AddCompletionCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddDemoCommand(CLI::App* app, Globals* globals, Command* chosen);

// The table of a gradient check, and a last line with the verdict.
std::string GradCheckTable(const GradCheckResult& result);

// All commands with their flags, examples and help. `chosen` is set when a command line was parsed.
void BuildApp(CLI::App* app, Globals* globals, Command* chosen);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_COMMAND_H_
