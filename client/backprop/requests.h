// What is checked before a request is sent: that it names something, and that arrays have as many
// numbers as their shapes say. Everything else is checked by the server. Not installed.
#ifndef BACKPROP_CLIENT_REQUESTS_H_
#define BACKPROP_CLIENT_REQUESTS_H_

#include <google/protobuf/repeated_field.h>

#include <string>
#include <utility>
#include <vector>

#include "backprop/status.h"
#include "backprop/v1/training_service.pb.h"

namespace backprop {

using Violations = std::vector<FieldViolation>;

// Each appends what is wrong with a field.
void CheckName(const std::string& field, const std::string& name, Violations* wrong);
void CheckTensor(const std::string& field, const v1::Tensor& tensor, Violations* wrong);
void CheckBatch(const std::string& field, const v1::Batch& batch, Violations* wrong);
void CheckTensors(const std::string& field,
                  const google::protobuf::RepeatedPtrField<v1::NamedTensor>& tensors,
                  Violations* wrong);

// OK, or INVALID_ARGUMENT with these violations.
Status InvalidUnlessEmpty(Violations wrong);

// Checks the fields that a request has, by their names in the API.
template <class Request>
Status CheckRequest(const Request& request) {
  Violations wrong;
  if constexpr (requires { request.name(); }) CheckName("name", request.name(), &wrong);
  if constexpr (requires { request.model(); }) CheckName("model", request.model(), &wrong);
  if constexpr (requires { request.checkpoint_id(); }) {
    CheckName("checkpoint_id", request.checkpoint_id(), &wrong);
  }
  if constexpr (requires { request.inputs(); }) CheckTensor("inputs", request.inputs(), &wrong);
  if constexpr (requires { request.batch(); }) CheckBatch("batch", request.batch(), &wrong);
  if constexpr (requires { request.data().inputs(); }) {
    CheckBatch("data", request.data(), &wrong);
  }
  if constexpr (requires { request.validation().inputs(); }) {
    CheckBatch("validation", request.validation(), &wrong);
  }
  if constexpr (requires { request.gradients(); }) {
    CheckTensors("gradients", request.gradients(), &wrong);
  }
  if constexpr (requires { request.parameters(); }) {
    CheckTensors("parameters.tensors", request.parameters().tensors(), &wrong);
  }
  if constexpr (requires { request.initial_parameters(); }) {
    CheckTensors("initial_parameters.tensors", request.initial_parameters().tensors(), &wrong);
  }
  return InvalidUnlessEmpty(std::move(wrong));
}

}  // namespace backprop

#endif  // BACKPROP_CLIENT_REQUESTS_H_
