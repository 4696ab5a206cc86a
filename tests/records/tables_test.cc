// Numbers and names of tables are part of the format of directories and backups.
#include "server/records/tables.h"

#include <gtest/gtest.h>

#include <iterator>
#include <string>
#include <vector>

namespace backprop::records {
namespace {

TEST(TablesTest, NumbersAndNamesMatchFormat2) {
  EXPECT_EQ(kFormatVersion, 2u);
  EXPECT_EQ(store::kMeta.number, 0);
  EXPECT_STREQ(store::kMeta.name, "default");
  const std::vector<std::string> names = {"models",      "states",   "requests",
                                          "log",         "runs",     "chunks",
                                          "checkpoints", "datasets", "dataset_rows"};
  ASSERT_EQ(std::size(kTables), names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(kTables[i]->number, i + 1);
    EXPECT_EQ(kTables[i]->name, names[i]);
  }
}

TEST(TablesTest, OnlyResponsesMayAccompanyDeletions) {
  for (const store::Table* table : kTables) {
    EXPECT_EQ(table->accompanies_deletions, table == &kRequests) << table->name;
    store::WriteBatch batch;
    batch.Delete(kModels, "a");
    EXPECT_TRUE(batch.OnlyFrees());
    batch.Put(*table, "a", "");
    EXPECT_EQ(batch.OnlyFrees(), table == &kRequests) << table->name;
  }
}

}  // namespace
}  // namespace backprop::records
