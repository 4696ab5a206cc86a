// Deletion of several resources, with confirmation.
#ifndef BACKPROP_CLIENT_CLI_CONFIRM_H_
#define BACKPROP_CLIENT_CLI_CONFIRM_H_

#include <functional>
#include <string>
#include <vector>

#include "client/cli/command.h"

namespace backprop::cli {

// Asks on the terminal "Delete 3 models (a, b, c)? [y/N]" and returns whether the answer was yes.
// Without a terminal throws CLI::ValidationError that names --yes.
bool Confirm(const std::string& question);

// Deletes each name and prints it ("deleted models/a", with --json {"deleted":[…]}). Continues
// after a failure. Returns the exit status.
int DeleteEach(const Globals& globals, const std::vector<std::string>& names,
               const std::function<Status(Client* client, const std::string& name)>& remove);

// Returns "models/xor" for "xor".
std::string WithPrefix(const std::string& prefix, const std::string& id);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_CONFIRM_H_
