#include "client/cli/columns.h"

#include <gtest/gtest.h>

namespace backprop::cli {
namespace {

using Indices = std::vector<size_t>;

ModelSpec Classifier(std::vector<std::string> features) {
  ModelSpec spec;
  spec.input_size = 2;
  spec.layers = {{3}};
  spec.feature_names = std::move(features);
  return spec;
}

ModelSpec Regression(int32_t targets) {
  ModelSpec spec = Classifier({"width", "height"});
  spec.layers = {{targets}};
  spec.loss = MeanSquaredError();
  return spec;
}

CsvTable Table(const std::string& header) {
  size_t columns = 1 + static_cast<size_t>(std::count(header.begin(), header.end(), ','));
  std::string row = "0";
  while (--columns > 0) row += ",0";
  return ParseCsv("f.csv", header + "\n" + row + "\n", true);
}

Columns Told(const std::string& header, const ModelSpec& spec, bool inputs_alone = false,
             const ColumnFlags& flags = {}) {
  return TellApart(Table(header), "models/m", spec, flags, inputs_alone);
}

std::string ErrorOf(const std::string& header, const ModelSpec& spec,
                    const ColumnFlags& flags = {}) {
  try {
    Told(header, spec, false, flags);
  } catch (const DataError& error) {
    return error.message;
  }
  return "none";
}

const ModelSpec kNamed = Classifier({"width", "height"});

TEST(ColumnsTest, FeaturesAreFoundByTheirNames) {
  const Columns ordered = Told("width,height,kind", kNamed);
  EXPECT_EQ(ordered.inputs, (Indices{0, 1}));
  EXPECT_EQ(ordered.wanted, (Indices{2}));
  EXPECT_TRUE(ordered.notes.empty());
  const Columns swapped = Told("kind,height,width", kNamed);
  EXPECT_EQ(swapped.inputs, (Indices{2, 1}));
  EXPECT_EQ(swapped.wanted, (Indices{0}));
  EXPECT_TRUE(swapped.notes.empty());
}

TEST(ColumnsTest, OtherColumnsAreLeftOutWithANote) {
  const Columns columns = Told("id,height,width,kind", kNamed);
  EXPECT_EQ(columns.inputs, (Indices{2, 1}));
  EXPECT_EQ(columns.wanted, (Indices{3}));
  EXPECT_EQ(columns.notes, (std::vector<std::string>{"f.csv: ignores id; the label is kind"}));
  EXPECT_EQ(Told(",height,width,kind", kNamed).notes[0],
            "f.csv: ignores column 0; the label is kind");
  const Columns flagged = Told("kind,id,height,width", kNamed, false, {"kind", ""});
  EXPECT_EQ(flagged.wanted, (Indices{0}));
  EXPECT_EQ(flagged.notes[0], "f.csv: ignores id; the label is kind");
  const Columns weighted = Told("w,height,width,kind", kNamed, false, {"", "w"});
  EXPECT_EQ(weighted.weight, 0U);
  EXPECT_TRUE(weighted.notes.empty());
  const Columns targets = Told("id,a,height,b,width", Regression(2));
  EXPECT_EQ(targets.wanted, (Indices{1, 3}));
  EXPECT_EQ(targets.notes[0], "f.csv: ignores id; the targets are a, b");
}

TEST(ColumnsTest, InputsAlone) {
  EXPECT_EQ(Told("height,width", kNamed, true).inputs, (Indices{1, 0}));
  const Columns columns = Told("id,height,width,kind", kNamed, true);
  EXPECT_EQ(columns.inputs, (Indices{2, 1}));
  EXPECT_EQ(columns.notes, (std::vector<std::string>{"f.csv: ignores id, kind"}));
}

TEST(ColumnsTest, WhatIsMissingIsNamed) {
  EXPECT_EQ(ErrorOf("width,depth,kind", kNamed),
            "f.csv: has no column \"height\", a feature of models/m; it has width, depth, kind");
  EXPECT_EQ(ErrorOf("a,b,kind", kNamed),
            "f.csv: has no column \"width\", \"height\", a feature of models/m; it has a, b, kind");
  EXPECT_EQ(ErrorOf("height,width", kNamed),
            "f.csv: has 0 columns besides the features and the weight, but models/m needs one for "
            "the label; it has height, width");
  EXPECT_EQ(ErrorOf("height,width,t", Regression(2)),
            "f.csv: has 1 columns besides the features and the weight, but models/m needs 2 for "
            "targets; it has height, width, t");
}

TEST(ColumnsTest, AmbiguityIsRefused) {
  EXPECT_EQ(ErrorOf("width,height,width,kind", kNamed),
            "f.csv: has two columns named \"width\", a feature of models/m");
  EXPECT_EQ(ErrorOf("width,height,kind", kNamed, {"width", ""}),
            "f.csv: width cannot be both the label and a feature");
  EXPECT_EQ(ErrorOf("width,height,kind", kNamed, {"", "width"}),
            "f.csv: width cannot be both the weight and a feature");
  EXPECT_EQ(ErrorOf("width,height,kind", kNamed, {"kind", "kind"}),
            "f.csv: kind cannot be both the label and the weight");
  EXPECT_EQ(ErrorOf("width,height,kind,kind", kNamed, {"kind", ""}),
            "f.csv: has two columns named \"kind\"");
}

TEST(ColumnsTest, WithoutNamesTheOrderCounts) {
  const ModelSpec unnamed = Classifier({});
  EXPECT_EQ(Told("b,a,kind", unnamed).inputs, (Indices{0, 1}));
  EXPECT_EQ(
      ErrorOf("id,a,b,kind", unnamed),
      "f.csv: has 3 feature columns and 1 for the label, but models/m takes 2 features; it has id, "
      "a, b, kind; a model created with --feature-names finds its columns by name");
  const CsvTable bare = ParseCsv("f.csv", "1,2,0\n", std::nullopt);
  EXPECT_EQ(TellApart(bare, "models/m", kNamed, {}, false).inputs, (Indices{0, 1}));
}

TEST(ColumnsTest, AnUnknownColumnListsTheKnownOnes) {
  EXPECT_EQ(ErrorOf("width,height,kind", kNamed, {"class", ""}),
            "f.csv: has no column \"class\"; it has width, height, kind");
  const CsvTable bare = ParseCsv("f.csv", "1,2,0\n", std::nullopt);
  try {
    TellApart(bare, "models/m", kNamed, {"3", ""}, false);
    FAIL();
  } catch (const DataError& error) {
    EXPECT_EQ(error.message,
              "f.csv: has no column \"3\"; it has 3 columns without names, counted from 0");
  }
  std::string wide = "c0";
  for (int i = 1; i < 30; ++i) wide += ",c" + std::to_string(i);
  EXPECT_NE(ErrorOf(wide, kNamed, {"x", ""}).find("c18, c19, … (30 columns)"), std::string::npos);
}

// Reads "column" as labels of a model with these class names: names, indices or the error.
std::string LabelsOf(const std::string& column, const std::vector<std::string>& names,
                     const Loss& loss = SoftmaxCrossEntropy()) {
  ModelSpec spec = Classifier({});
  spec.class_names = names;
  spec.loss = loss;
  if (std::holds_alternative<BinaryCrossEntropy>(loss)) spec.layers = {{1}};
  Batch batch;
  try {
    Labels(ParseCsv("f.csv", column, false), 0, spec, &batch);
  } catch (const DataError& error) {
    return error.message;
  }
  std::string all;
  for (const std::string& name : batch.label_names) all += name + " ";
  for (const int32_t label : batch.labels) all += "#" + std::to_string(label) + " ";
  return all;
}

TEST(ColumnsTest, LabelsAreNamesOrIndices) {
  const std::vector<std::string> pets = {"cat", "dog", "owl"};
  EXPECT_EQ(LabelsOf("dog\ncat\n", pets), "dog cat ");
  EXPECT_EQ(LabelsOf("0\n2.0\n1e0\n", {}), "#0 #2 #1 ");
  EXPECT_EQ(LabelsOf("0.0\n2.0\n", pets), "#0 #2 ");
  EXPECT_EQ(LabelsOf("1.0\n2\n03\n", {"1", "2", "3"}), "1 2 3 ");
  EXPECT_EQ(LabelsOf("-1\n1.0\n", {"-1", "1"}), "-1 1 ");
  EXPECT_EQ(LabelsOf("cat\n1\n", pets),
            "f.csv:2:1: expected one of the model's class_names cat, dog, owl, got \"1\"");
  EXPECT_EQ(LabelsOf("ant\n", pets),
            "f.csv:1:1: expected one of the model's class_names cat, dog, owl, or a class index "
            "from 0 to 2, got \"ant\"");
  for (const char* bad : {"3", "-1", "0.5", "4294967296", "x", "nan", "1e-9"}) {
    EXPECT_EQ(LabelsOf(std::string(bad) + "\n", {}),
              "f.csv:1:1: expected a class index from 0 to 2, got \"" + std::string(bad) + "\"");
  }
  EXPECT_EQ(LabelsOf("1\n2\n", {}, BinaryCrossEntropy()),
            "f.csv:2:1: expected a class index from 0 to 1, got \"2\"");
}

TEST(ColumnsTest, ADatasetsLabelsMeanTheSame) {
  const auto names = [](const std::string& column) {
    return NamesIn(ParseCsv("f.csv", column, false), 0);
  };
  EXPECT_TRUE(names("0\n1\n").empty());
  EXPECT_TRUE(names("0.0\n1.0\n 2 \n").empty());
  EXPECT_EQ(names("no\nyes\nno\n"), (std::vector<std::string>{"no", "yes"}));
  EXPECT_EQ(names("0.5\n1\n"), (std::vector<std::string>{"0.5", "1"}));
  EXPECT_EQ(names("-1\n1\n"), (std::vector<std::string>{"-1", "1"}));
}

}  // namespace
}  // namespace backprop::cli
