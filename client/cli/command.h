// Declarations shared by all commands.
#ifndef BACKPROP_CLIENT_CLI_COMMAND_H_
#define BACKPROP_CLIENT_CLI_COMMAND_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "backprop/client.h"
#include "client/cli/connection.h"
#include "client/cli/json_output.h"

namespace backprop::cli {

inline constexpr int kOk = 0;
inline constexpr int kFailed = 1;         // an error of an RPC or of the data
inline constexpr int kUsage = 2;          // wrong usage
inline constexpr int kInterrupted = 130;  // Ctrl-C, as in shells

// The global flags, and the objects made from them.
struct Globals {
  ConnectionFlags connection;
  std::optional<double> timeout_seconds;
  bool no_proxy = false;
  double keepalive_time_seconds = 10;  // 0: no pings
  double keepalive_timeout_seconds = 10;
  bool json = false;
  Cancellation interrupt;  // cancelled by Ctrl-C

  // Numbers of attempts to connect. The default reports an unavailable server soon; long work
  // tolerates that it is unavailable for some seconds.
  static constexpr int kSoon = 5;
  static constexpr int kPatiently = 8;
  // What --json does with the replies of a client: adds them to the command's document, prints each
  // as a line on arrival, or ignores them.
  enum class Replies { kDocument, kLines, kHidden };
  // Throws what ResolveConnection throws.
  Client Connect(int attempts = kSoon, Replies replies = Replies::kDocument) const;
  // For calls whose replies are not part of the command's result.
  Client ConnectHidden() const { return Connect(kSoon, Replies::kHidden); }
  CallOptions Call() const;
  // With --json, prints the document: `text` of SetDocument() if it was called, otherwise the
  // replies.
  void PrintDocument() const;
  void SetDocument(const std::string& text) const { *own_document_ = text; }
  // Prints an error to standard error, as "CODE: message" or, with --json, as JSON. Returns the
  // exit status.
  int Fail(const Status& status, const std::string& more = "") const;
  // The same for errors of the data or the command line.
  int FailHere(int exit_status, const std::string& reason, const std::string& message) const;

 private:
  // How the first Connect reached the server.
  std::shared_ptr<std::optional<Connection>> resolved_ =
      std::make_shared<std::optional<Connection>>();
  std::shared_ptr<JsonDocument> document_ = std::make_shared<JsonDocument>();
  std::shared_ptr<std::string> own_document_ = std::make_shared<std::string>();
};

// The selected command; it runs after the command line is parsed. May throw DataError.
using Command = std::function<int()>;

void AddModelCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddTrainingCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddStepCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddReadingCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddParametersCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddCheckpointCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddDatasetCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddProjectCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddFileCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddContextCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddServerCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddTopCommand(CLI::App* app, Globals* globals, Command* chosen);
void AddDebugCommand(CLI::App* app, Globals* globals, Command* chosen);
void AddTokenCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddCompletionCommands(CLI::App* app, Globals* globals, Command* chosen);
void AddDemoCommand(CLI::App* app, Globals* globals, Command* chosen);

// Formats a gradient check as a table, with the verdict in the last line.
std::string GradCheckTable(const GradCheckResult& result);

// Adds all commands with flags, examples and help. Parsing a command line sets `chosen`.
void BuildApp(CLI::App* app, Globals* globals, Command* chosen);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_COMMAND_H_
