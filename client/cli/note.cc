#include "client/cli/note.h"

#include <cstdio>

#include "client/cli/json_output.h"
#include "client/cli/utf8.h"

namespace backprop::cli {
namespace {

bool json_notes = false;  // set once, before any command runs

}  // namespace

void PrintNote(const std::string& text) {
  if (json_notes) {
    std::fprintf(stderr, "{\"note\":%s}\n", JsonString(text).c_str());
  } else {
    std::fprintf(stderr, "note: %s\n", Printable(text).c_str());
  }
}

void SetJsonNotes(bool json) { json_notes = json; }

}  // namespace backprop::cli
