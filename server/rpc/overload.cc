#include "server/rpc/overload.h"

#include <algorithm>
#include <optional>

#include "server/exec/compute_pool.h"
#include "server/rpc/call/overload_control.h"

namespace backprop::rpc {
namespace {

bool Admit(Context* context, UnaryCall* call, const std::optional<exec::Refusal>& refusal) {
  if (!refusal.has_value()) return true;
  const bool of_model = refusal->queue == exec::Refusal::Queue::kModel;
  call->Done(context->overload.Refuse(
      of_model ? Overload::kModel : Overload::kThreads,
      of_model ? "changes of the model wait for earlier ones for longer than --queue-delay-target"
               : "work of the project waits for a compute thread for longer than "
                 "--queue-delay-target",
      refusal->retry_after));
  return false;
}

}  // namespace

int64_t RowsOf(const v1::Tensor& inputs, const engine::Network& network) {
  const int64_t element_bytes = inputs.data_type() == v1::DATA_TYPE_FLOAT64 ? 8 : 4;
  const int64_t elements =
      inputs.values_size() + static_cast<int64_t>(inputs.raw().size()) / element_bytes;
  return std::max<int64_t>(1, elements / network.inputs());
}

bool AdmitChange(Context* context, UnaryCall* call, session::Session* model, int64_t cost) {
  return Admit(context, call, model->RefuseChange(cost));
}

bool AdmitQuery(Context* context, UnaryCall* call, const session::Session& model, int64_t cost,
                bool sliced) {
  exec::ComputePool::Share* const share = model.share();
  return Admit(context, call, sliced ? share->RefuseSliced(cost) : share->Refuse(cost));
}

}  // namespace backprop::rpc
