#include "client/cli/confirm.h"

#include <unistd.h>

#include <cstdio>
#include <iostream>

namespace backprop::cli {

bool Confirm(const std::string& question) {
  if (isatty(STDIN_FILENO) != 1) {
    throw CLI::ValidationError("--yes",
                               "is required if standard input is not a terminal: " + question);
  }
  std::fprintf(stderr, "%s [y/N] ", question.c_str());
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

int DeleteEach(const Globals& globals, const std::vector<std::string>& names,
               const std::function<Status(Client* client, const std::string& name)>& remove) {
  Client client = globals.ConnectHidden();
  int exit_status = kOk;
  std::string deleted;
  for (const std::string& name : names) {
    const Status status = remove(&client, name);
    if (!status.ok()) {
      exit_status = globals.Fail(status);
      if (status.code == StatusCode::kUnavailable || exit_status == kInterrupted) break;
      continue;
    }
    deleted += (deleted.empty() ? "" : ",") + JsonString(name);
    if (!globals.json) std::printf("deleted %s\n", name.c_str());
  }
  globals.SetDocument(R"({"deleted":[)" + deleted + "]}");
  return exit_status;
}

std::string WithPrefix(const std::string& prefix, const std::string& id) {
  return id.rfind(prefix, 0) == 0 ? id : prefix + id;
}

}  // namespace backprop::cli
