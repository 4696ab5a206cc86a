// Deleting several things of one kind, and the question before it.
#ifndef BACKPROP_CLIENT_CLI_CONFIRM_H_
#define BACKPROP_CLIENT_CLI_CONFIRM_H_

#include <functional>
#include <string>
#include <vector>

#include "client/cli/command.h"

namespace backprop::cli {

// Asks on a terminal "Delete 3 models (a, b, c)? [y/N]" and returns whether the answer was yes.
// Without a terminal nobody can answer: throws CLI::ValidationError that names --yes.
bool Confirm(const std::string& question);

// Deletes each by its name, tells which ("deleted models/a", with --json {"deleted":[…]}), and goes
// on after one that cannot be deleted. Returns the exit status.
int DeleteEach(const Globals& globals, const std::vector<std::string>& names,
               const std::function<Status(Client* client, const std::string& name)>& remove);

// "models/xor" of "xor".
std::string WithPrefix(const std::string& prefix, const std::string& id);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_CONFIRM_H_
