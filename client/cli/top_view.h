// What `backprop top` prints.
#ifndef BACKPROP_CLIENT_CLI_TOP_VIEW_H_
#define BACKPROP_CLIENT_CLI_TOP_VIEW_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "client/cli/server_figures.h"

namespace backprop::cli {

// Numbers for people: three digits or so, and a unit. "-" stands for an unknown value.
std::string ShownNumber(std::optional<double> value);   // "0.3", "950", "12.3k", "4.0M"
std::string ShownCount(std::optional<double> value);    // the same, whole below 10,000
std::string ShownSeconds(std::optional<double> value);  // "80 µs", "1.2 ms", "3.40 s", "2.0 min"
std::string ShownBytes(std::optional<double> value);    // "512 kB", "38 MB", "1.2 GB"

// The lines for a terminal of `width` × `height` cells: at most `height` lines of at most `width`
// cells. In a narrow terminal the least important parts of a line are left out, in a low one the
// methods with the fewest calls. `note` is shown in the first line; empty: none.
std::vector<std::string> TopLines(const ServerFigures& figures, const std::string& note,
                                  size_t width, size_t height);

// All figures as one line of JSON. Unknown ones are left out.
std::string TopJson(const ServerFigures& figures);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_TOP_VIEW_H_
