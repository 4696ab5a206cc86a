#include "server/engine/split.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <utility>

#include "server/engine/random.h"

namespace backprop::engine {
namespace {

// The range of validation rows of each class.
struct Bounds {
  std::vector<int64_t> least;
  std::vector<int64_t> most;
};

Bounds BoundsOf(const std::vector<int64_t>& rows, int64_t held_out) {
  Bounds bounds;
  int64_t least_in_all = 0, most_in_all = 0, singles = 0;
  for (int64_t n : rows) {
    bounds.least.push_back(n >= 2 ? 1 : 0);
    bounds.most.push_back(std::max<int64_t>(n - 1, 0));
    least_in_all += bounds.least.back();
    most_in_all += bounds.most.back();
    singles += n == 1 ? 1 : 0;
  }
  if (least_in_all > held_out) bounds.least.assign(rows.size(), 0);
  if (most_in_all + singles < held_out) {
    bounds.most = rows;
  } else if (most_in_all < held_out) {
    for (size_t c = 0; c < rows.size(); ++c) bounds.most[c] += rows[c] == 1 ? 1 : 0;
  }
  return bounds;
}

// Moves the first counts[c] rows of each class c in `order` to its front.
void BringToFront(const std::vector<int32_t>& classes, std::vector<int64_t> counts,
                  std::vector<int32_t>* order) {
  std::vector<int32_t> rest;
  auto end = order->begin();  // end of the front; never after the current row
  for (const int32_t row : *order) {
    int64_t& left = counts[static_cast<size_t>(classes[static_cast<size_t>(row)])];
    if (left > 0) {
      --left;
      *end++ = row;
    } else {
      rest.push_back(row);
    }
  }
  std::copy(rest.begin(), rest.end(), end);
}

}  // namespace

int64_t ValidationRows(int64_t rows, double share) {
  return static_cast<int64_t>(std::ceil(share * static_cast<double>(rows)));
}

std::vector<int64_t> HeldOutOfClasses(const std::vector<int64_t>& rows, int64_t held_out) {
  int64_t n = 0;
  for (int64_t of_class : rows) n += of_class;
  const Bounds bounds = BoundsOf(rows, held_out);
  std::vector<int64_t> counts;
  int64_t missing = held_out;
  for (size_t c = 0; c < rows.size(); ++c) {
    // Products of row counts stay below 2^62, because there are fewer than 2^31 rows.
    const int64_t floor = n > 0 ? held_out * rows[c] / n : 0;
    counts.push_back(std::clamp(floor, bounds.least[c], bounds.most[c]));
    missing -= counts.back();
  }
  // Adds one row at a time to the class furthest below its share, or removes one from the class
  // furthest above. Ties are resolved in favour of the lowest class.
  const int64_t change = missing > 0 ? 1 : -1;
  using Entry = std::pair<int64_t, int64_t>;  // n times the distance from the share; −class
  std::priority_queue<Entry> queue;
  const auto push = [&](size_t c) {
    if (counts[c] == (change > 0 ? bounds.most[c] : bounds.least[c])) return;
    queue.emplace(change * (held_out * rows[c] - n * counts[c]), -static_cast<int64_t>(c));
  };
  for (size_t c = 0; missing != 0 && c < rows.size(); ++c) push(c);
  for (; missing != 0; missing -= change) {
    const auto c = static_cast<size_t>(-queue.top().second);
    queue.pop();
    counts[c] += change;
    push(c);
  }
  return counts;
}

Split SplitForValidation(const std::shared_ptr<const Dataset>& data, const SplitPlan& plan) {
  std::vector<int32_t> order(static_cast<size_t>(data->rows));
  Permutation(RandomStream(plan.seed, RandomPurpose::kValidationSplit, plan.index), order);
  const int64_t rows = ValidationRows(data->rows, plan.share);
  if (plan.stratify && !data->classes.empty()) {
    const auto classes = *std::max_element(data->classes.begin(), data->classes.end()) + 1;
    std::vector<int64_t> rows_of(static_cast<size_t>(classes));
    for (int32_t c : data->classes) ++rows_of[static_cast<size_t>(c)];
    BringToFront(data->classes, HeldOutOfClasses(rows_of, rows), &order);
  }
  const auto held_out = order.begin() + rows;
  std::sort(order.begin(), held_out);
  std::sort(held_out, order.end());
  return {RowSet(data, {held_out, order.end()}), RowSet(data, {order.begin(), held_out})};
}

}  // namespace backprop::engine
