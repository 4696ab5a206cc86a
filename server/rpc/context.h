// What all RPCs share: the models, the datasets and the calls that are open.
#ifndef BACKPROP_SERVER_RPC_CONTEXT_H_
#define BACKPROP_SERVER_RPC_CONTEXT_H_

#include <atomic>
#include <cstdint>

#include "absl/status/statusor.h"
#include "server/base/limits.h"
#include "server/datasets/datasets.h"
#include "server/registry/registry.h"
#include "server/rpc/call/authenticator.h"
#include "server/rpc/call/calls.h"
#include "server/rpc/call/overload_control.h"
#include "server/rpc/call/sending.h"
#include "server/rpc/introspection.h"
#include "server/session/environment.h"
#include "server/session/memory_budget.h"
#include "server/session/projects.h"

namespace backprop::rpc {

// The members are thread-safe or do not change while the server runs.
struct Context {
  session::Environment* environment;
  registry::Registry* registry;
  datasets::Datasets* datasets;
  Calls calls;
  Sending sending{};
  OverloadControl overload{};
  // As in ServerOptions; set when the server starts.
  Authenticator* authenticator = nullptr;
  bool reflection_is_public = false;
  // What GetServerStatus reports. Must outlive the calls. Null: not yet known.
  std::atomic<const Introspection*> introspection{nullptr};

  const base::Limits& limits() const { return environment->limits; }

  // Counts what a call costs against a rate of a project. RESOURCE_EXHAUSTED (QUOTA_EXCEEDED).
  absl::Status Charge(session::Project* project, session::Rate rate, int64_t amount) const {
    return project->Take(rate, amount, environment->clock->Now());
  }

  // Counts the memory of a request of `bytes` bytes: twice its size, for the message and its
  // decoded form. Requests below base::kUncountedBytes are not counted. RESOURCE_EXHAUSTED if the
  // memory limit is reached.
  absl::StatusOr<session::MemoryBudget::Claim> MemoryOfRequest(int64_t bytes) const {
    if (bytes < base::kUncountedBytes) return session::MemoryBudget::Claim();
    return environment->memory.AskForWork(2 * bytes, "the request");
  }
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CONTEXT_H_
