// ONNX files written in ONNX's own text form.
#ifndef BACKPROP_TESTS_TRANSFER_ONNX_TEXT_H_
#define BACKPROP_TESTS_TRANSFER_ONNX_TEXT_H_

#include <gtest/gtest.h>
#include <onnx/defs/parser.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace backprop::transfer {

// The file of the text of a model, from "<ir_version: …>".
inline onnx::ModelProto OnnxOfText(const std::string& text) {
  onnx::ModelProto file;
  const auto parsed = onnx::OnnxParser::Parse(file, text.c_str());
  EXPECT_TRUE(parsed.IsOK()) << parsed.ErrorMessage() << "\n" << text;
  return file;
}

// The same for the text of a graph, from "(float[n, 3] x) => …".
inline onnx::ModelProto OnnxOfGraph(const std::string& graph, int opset = 17) {
  return OnnxOfText(absl::StrCat("<ir_version: 8, opset_import: [\"\" : ", opset,
                                 ", \"ai.onnx.ml\" : 3, \"other\" : 1]> g ", graph));
}

}  // namespace backprop::transfer

#endif  // BACKPROP_TESTS_TRANSFER_ONNX_TEXT_H_
