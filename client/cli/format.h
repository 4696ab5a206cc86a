// Formats a short text as printf does.
#ifndef BACKPROP_CLIENT_CLI_FORMAT_H_
#define BACKPROP_CLIENT_CLI_FORMAT_H_

#include <cstdio>
#include <string>

namespace backprop::cli {

// Cuts the text after 255 bytes.
template <class... Args>
std::string FormatText(const char* format, Args... args) {
  char line[256];
  std::snprintf(line, sizeof(line), format, args...);
  return line;
}

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_FORMAT_H_
