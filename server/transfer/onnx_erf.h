// The error function in float64 as a function of an ONNX file. ONNX has the operator Erf, but ONNX
// Runtime computes it in float32 only.
#ifndef BACKPROP_SERVER_TRANSFER_ONNX_ERF_H_
#define BACKPROP_SERVER_TRANSFER_ONNX_ERF_H_

#include <onnx/onnx_pb.h>

namespace backprop::transfer {

inline constexpr char kErfName[] = "Erf64";  // in the domain kOnnxDomain

// erf(x) = sign(x)·(1 − t·exp(P(y) − x²)) with t = 2 / (2 + |x|) and y = 2·t − 1, where the
// polynomial P is the Chebyshev expansion of log(erfc(|x|)·exp(x²) / t). Its largest error is
// 5e-16. The same bytes at every call.
onnx::FunctionProto ErfFunction();

// Whether `function` is that of ErfFunction, to the last byte.
bool IsErfFunction(const onnx::FunctionProto& function);

}  // namespace backprop::transfer

#endif  // BACKPROP_SERVER_TRANSFER_ONNX_ERF_H_
