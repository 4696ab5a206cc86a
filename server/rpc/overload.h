// Refuses calls whose work would wait too long, when their model is found and before their tensors
// are decoded. The cost is estimated from the size of the tensors. Cheap work, which runs on gRPC's
// thread, is never refused here.
#ifndef BACKPROP_SERVER_RPC_OVERLOAD_H_
#define BACKPROP_SERVER_RPC_OVERLOAD_H_

#include <cstdint>

#include "backprop/v1/tensor.pb.h"
#include "server/engine/network.h"
#include "server/rpc/call/unary_call.h"
#include "server/rpc/context.h"
#include "server/session/session.h"

namespace backprop::rpc {

// Number of rows of `inputs`, which is not checked yet: at least 1, and at most as many as the
// tensor has elements.
int64_t RowsOf(const v1::Tensor& inputs, const engine::Network& network);

// Each returns whether the call continues. If not, the call has ended with UNAVAILABLE
// (OVERLOADED), and must not be used. `cost` is in floating-point operations.

// For a change of the model.
bool AdmitChange(Context* context, UnaryCall* call, session::Session* model, int64_t cost);
// For a query that computes at once. `sliced`: it is divided into slices if it takes long.
bool AdmitQuery(Context* context, UnaryCall* call, const session::Session& model, int64_t cost,
                bool sliced);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_OVERLOAD_H_
