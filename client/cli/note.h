// Notes for the user in addition to the result.
#ifndef BACKPROP_CLIENT_CLI_NOTE_H_
#define BACKPROP_CLIENT_CLI_NOTE_H_

#include <string>

namespace backprop::cli {

// Prints "note: …" to standard error; after SetJsonNotes(true) {"note":…}, so that with --json
// every line there is JSON.
void PrintNote(const std::string& text);
void SetJsonNotes(bool json);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_NOTE_H_
