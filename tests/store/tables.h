// Tables for tests of the store.
#ifndef BACKPROP_TESTS_STORE_TABLES_H_
#define BACKPROP_TESTS_STORE_TABLES_H_

#include "server/store/store.h"

namespace backprop::store {

inline constexpr Table kPlain{.number = 1, .name = "plain"};
inline constexpr Table kNumbers{.number = 2, .name = "numbers", .compresses = false};
inline constexpr Table kAnswers{.number = 3, .name = "answers", .accompanies_deletions = true};
inline constexpr Table kLarge{
    .number = 4, .name = "large", .compresses = false, .large_values = true};
inline constexpr Table kRows{.number = 5,
                             .name = "rows",
                             .compresses = false,
                             .large_values = true,
                             .reclaims_prefixes = true};
inline constexpr const Table* kTestTables[] = {&kPlain, &kNumbers, &kAnswers, &kLarge, &kRows};
inline constexpr Schema kTestSchema{1, kTestTables};

}  // namespace backprop::store

#endif  // BACKPROP_TESTS_STORE_TABLES_H_
