// debug: one archive for a bug report.
#include <chrono>
#include <cstdio>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "bp_version.h"
#include "client/cli/command.h"
#include "client/cli/json_output.h"
#include "client/cli/private_file.h"
#include "client/cli/zip_archive.h"

namespace backprop::cli {
namespace {

constexpr char kReadme[] =
    "What a backpropd server says about itself, for a bug report. Made by `backprop debug`.\n"
    "\n"
    "version.txt  versions of the server and of `backprop`, and the times\n"
    "health.txt   what is serving, and why something is not\n"
    "flags.txt    all flags of the server and their values; # marks defaults\n"
    "metrics.txt  all metrics, in Prometheus' text format (docs/metrics.md)\n"
    "log.txt      the latest lines of the server's log, at most 1000 and 256 KiB\n"
    "\n"
    "It contains no tokens, passwords, keys and no contents of models and datasets. It does "
    "contain\n"
    "names of models, datasets, projects and files, and addresses. Read it before you share it.\n";

std::string FormatTime(std::chrono::system_clock::time_point time, const char* format) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts = {};
  gmtime_r(&seconds, &parts);
  char text[64];
  std::strftime(text, sizeof text, format, &parts);
  return text;
}

std::string VersionText(const ServerStatus& status) {
  constexpr char kFormat[] = "%Y-%m-%dT%H:%M:%SZ";
  return "backpropd " + status.version + " (commit " + status.commit + ", " +
         status.instruction_set + ")\nbackprop " + kVersion + " (commit " + kCommit +
         ")\nserver started " + FormatTime(status.start_time, kFormat) + "\nserver's time " +
         FormatTime(status.status_time, kFormat) + "\nclient's time " +
         FormatTime(std::chrono::system_clock::now(), kFormat) + "\n";
}

std::string HealthText(const ServerStatus& status) {
  std::string text;
  for (const ServiceHealth& health : status.health) {
    text += (health.service.empty() ? "server" : health.service) +
            (health.serving ? ": SERVING" : ": NOT_SERVING") +
            (health.reason.empty() ? "" : ": " + health.reason) + "\n";
  }
  return text;
}

// A line for each flag; a flag that was given can be copied to a command line.
std::string FlagsText(const ServerStatus& status) {
  std::string text;
  for (const ServerFlag& flag : status.flags) {
    text += (flag.given ? "" : "# ") + flag.name + "=" + flag.value + "\n";
  }
  return text;
}

std::string LogText(const ServerStatus& status) {
  std::string text;
  for (const std::string& line : status.log_lines) text += line + "\n";
  return text;
}

std::string ArchiveOf(const ServerStatus& status, const std::string& folder) {
  const std::vector<ArchiveFile> files = {
      {folder + "/README.txt", kReadme},
      {folder + "/version.txt", VersionText(status)},
      {folder + "/health.txt", HealthText(status)},
      {folder + "/flags.txt", FlagsText(status)},
      {folder + "/metrics.txt", status.metrics},
      {folder + "/log.txt", LogText(status)},
  };
  return ZipArchive(files, std::chrono::system_clock::to_time_t(status.status_time));
}

int Debug(const Globals& globals, const std::string& output) {
  const auto status = globals.ConnectHidden().GetServerStatus(StatusView::kFull, globals.Call());
  if (!status.ok()) return globals.Fail(status.status());
  const std::string folder = "backprop-debug-" + FormatTime(status->status_time, "%Y%m%dT%H%M%SZ");
  const std::string path = output.empty() ? folder + ".zip" : output;
  const std::string archive = ArchiveOf(*status, folder);
  WritePrivateFile(path, archive);
  globals.SetDocument(R"({"file":)" + JsonString(path) + R"(,"bytes":)" +
                      std::to_string(archive.size()) + "}");
  if (!globals.json) {
    std::printf("%s: %zu bytes; it contains names and addresses: read it before you share it\n",
                path.c_str(), archive.size());
  }
  return kOk;
}

}  // namespace

void AddDebugCommand(CLI::App* app, Globals* globals, Command* chosen) {
  auto* debug = app->add_subcommand(
      "debug", "Write an archive for a bug report: version, flags, health, metrics, log");
  auto output = std::make_shared<std::string>();
  debug
      ->add_option("--output", *output,
                   "The zip archive, readable by its owner only; default: backprop-debug-TIME.zip")
      ->type_name("FILE");
  debug->callback([=] { *chosen = [=] { return Debug(*globals, *output); }; });
}

}  // namespace backprop::cli
