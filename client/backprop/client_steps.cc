// Steps: one by one, and many in flight.
#include <deque>
#include <utility>

#include "backprop/client.h"
#include "client/backprop/calls.h"

namespace backprop {
namespace {

using Stub = v1::TrainingService::Stub;

v1::StepRequest MakeStep(const std::string& model, const Batch& batch,
                         std::optional<int64_t> expected_step, std::string request_id) {
  v1::StepRequest request;
  request.set_model(ResourceName(model));
  ToMessage(batch, request.mutable_batch());
  if (expected_step.has_value()) request.set_expected_step(*expected_step);
  request.set_request_id(std::move(request_id));
  return request;
}

}  // namespace

Result<StepResult> Client::Step(const std::string& model, const Batch& batch,
                                std::optional<int64_t> expected_step, const CallOptions& call) {
  const v1::StepRequest request = MakeStep(model, batch, expected_step, RequestId(call));
  v1::StepResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::Step, request, call, &response);
  if (!status.ok()) return status;
  return FromMessage(response);
}

struct StepStream::Impl {
  Impl(const Credentials& credentials, v1::TrainingService::Stub* stub, std::string model_name,
       const CallOptions& options,
       std::function<void(const google::protobuf::Message&)> sees_replies)
      : model(std::move(model_name)),
        call(options),
        scope(call, &context),
        on_reply(std::move(sees_replies)),
        authorized(credentials.Authorize(&context)) {
    if (call.timeout.has_value()) {
      context.set_deadline(std::chrono::system_clock::now() + *call.timeout);
    }
    if (authorized.ok()) stream = stub->StepStream(&context);
  }
  ~Impl() {
    if (!finished && stream != nullptr) {
      context.TryCancel();
      stream->Finish();
    }
  }

  const std::string model;
  const CallOptions call;
  grpc::ClientContext context;
  const CancelScope scope;
  const std::function<void(const google::protobuf::Message&)> on_reply;
  const grpc::Status authorized;
  Status invalid;  // what is wrong with a batch that was not sent
  // Null if the call is not authorized.
  std::unique_ptr<grpc::ClientReaderWriter<v1::StepStreamRequest, v1::StepStreamResponse>> stream;
  bool finished = false;
};

StepStream::StepStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
StepStream::~StepStream() = default;
StepStream::StepStream(StepStream&&) noexcept = default;
StepStream& StepStream::operator=(StepStream&&) noexcept = default;

bool StepStream::Send(const Batch& batch, std::optional<int64_t> expected_step,
                      const std::string& request_id) {
  v1::StepStreamRequest request;
  *request.mutable_step() =
      MakeStep(impl_->model, batch, expected_step, request_id.empty() ? RandomId() : request_id);
  if (Status invalid = CheckRequest(request.step()); !invalid.ok()) {
    impl_->invalid = std::move(invalid);
    return false;
  }
  return impl_->stream != nullptr && impl_->stream->Write(request);
}

std::optional<Result<StepResult>> StepStream::Receive() {
  v1::StepStreamResponse response;
  if (impl_->stream == nullptr || !impl_->stream->Read(&response)) return std::nullopt;
  if (impl_->on_reply) impl_->on_reply(response);
  if (response.has_error()) return FromMessage(response.error());
  return FromMessage(response.step());
}

void StepStream::DoneSending() {
  if (impl_->stream != nullptr) impl_->stream->WritesDone();
}

Status StepStream::Finish() {
  impl_->finished = true;
  if (impl_->stream == nullptr) return FromGrpc(impl_->authorized);
  if (!impl_->invalid.ok()) {
    impl_->context.TryCancel();
    impl_->stream->Finish();
    return impl_->invalid;
  }
  return FromGrpc(Plain(impl_->stream->Finish(), Cancelled(impl_->call)));
}

StepStream Client::OpenStepStream(const std::string& model, const CallOptions& call) {
  return StepStream(std::make_unique<StepStream::Impl>(
      *impl_->credentials, impl_->stub.get(), ResourceName(model), call, impl_->options.on_reply));
}

namespace {

constexpr int kMaxInFlight = 64;  // the server reads no further

// The steps of a pipeline that have no response. On a broken stream they are sent again.
class Pipeline {
 public:
  Pipeline(std::string model, const BatchSource& batches, const StepsOptions& options,
           std::string request_id)
      : model_(std::move(model)),
        batches_(batches),
        options_(options),
        request_id_(std::move(request_id)) {}

  // Makes the next step if there is room and a batch. Returns false if its batch is not one.
  bool Draw(Status* invalid) {
    const auto batch = batches_();
    if (!batch.has_value()) {
      drawn_all_ = true;
      return true;
    }
    auto expected = options_.expected_step;
    if (expected.has_value()) *expected += drawn_;
    v1::StepStreamRequest request;
    *request.mutable_step() =
        MakeStep(model_, *batch, expected, request_id_ + "-" + std::to_string(drawn_));
    *invalid = CheckRequest(request.step());
    if (!invalid->ok()) return false;
    ++drawn_;
    unanswered_.push_back(std::move(request));
    return true;
  }
  bool HasRoom() const {
    return !drawn_all_ && unanswered_.size() < static_cast<size_t>(options_.in_flight);
  }
  bool Complete() const { return drawn_all_ && unanswered_.empty(); }
  bool drawn_all() const { return drawn_all_; }
  const std::deque<v1::StepStreamRequest>& unanswered() const { return unanswered_; }
  void Answered() { unanswered_.pop_front(); }

 private:
  const std::string model_;
  const BatchSource& batches_;
  const StepsOptions& options_;
  const std::string request_id_;
  std::deque<v1::StepStreamRequest> unanswered_;
  int64_t drawn_ = 0;
  bool drawn_all_ = false;
};

}  // namespace

Status Client::Steps(const std::string& model, const BatchSource& batches,
                     const StepCallback& on_step, const StepsOptions& options,
                     const CallOptions& call) {
  Violations wrong;
  CheckName("model", ResourceName(model), &wrong);
  if (options.in_flight < 1 || options.in_flight > kMaxInFlight) {
    wrong.push_back({"in_flight", "must be in [1, 64], got " + std::to_string(options.in_flight)});
  }
  if (!wrong.empty()) return InvalidUnlessEmpty(std::move(wrong));
  Pipeline pipeline(model, batches, options, RequestId(call));
  Attempts attempts(impl_->options.retry, call);
  for (;;) {
    grpc::ClientContext context;
    attempts.Prepare(&context);
    const grpc::Status authorized = impl_->credentials->Authorize(&context);
    if (!authorized.ok()) return impl_->Ended(authorized);
    const CancelScope scope(call, &context);
    const auto stream = impl_->stub->StepStream(&context);
    const auto end = [&](Status status) {
      context.TryCancel();
      stream->Finish();
      return status;
    };
    size_t sent = 0;  // on this stream, and without a response
    bool open = true;
    bool done_sending = false;
    while (!pipeline.Complete()) {
      while (open && (sent < pipeline.unanswered().size() || pipeline.HasRoom())) {
        if (sent == pipeline.unanswered().size()) {
          if (Status invalid; !pipeline.Draw(&invalid)) return end(std::move(invalid));
          continue;
        }
        open = stream->Write(pipeline.unanswered()[sent]);
        if (open) ++sent;
      }
      if (open && pipeline.drawn_all() && !done_sending) {
        stream->WritesDone();
        done_sending = true;
      }
      v1::StepStreamResponse response;
      if (pipeline.unanswered().empty() || !stream->Read(&response)) break;
      attempts.Reset();
      pipeline.Answered();
      --sent;
      if (impl_->options.on_reply) impl_->options.on_reply(response);
      const Result<StepResult> result = response.has_error()
                                            ? Result<StepResult>(FromMessage(response.error()))
                                            : Result<StepResult>(FromMessage(response.step()));
      if (!on_step(result)) {
        Status left;
        left.code = StatusCode::kCancelled;
        left.message = "the callback ended the call";
        return end(std::move(left));
      }
    }
    grpc::Status status = Plain(stream->Finish(), Cancelled(call));
    if (pipeline.Complete()) return {};
    if (status.ok()) {
      status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "the stream ended before its responses");
    }
    if (!attempts.Again(&status)) return impl_->Ended(status);
  }
}

Result<std::vector<StepResult>> Client::Steps(const std::string& model,
                                              const std::vector<Batch>& batches,
                                              const StepsOptions& options,
                                              const CallOptions& call) {
  size_t next = 0;
  std::vector<StepResult> results;
  Status rejected;
  const Status status = Steps(
      model,
      [&]() -> std::optional<Batch> {
        if (next == batches.size()) return std::nullopt;
        return batches[next++];
      },
      [&](const Result<StepResult>& result) {
        if (result.ok()) {
          results.push_back(*result);
        } else {
          rejected = result.status();
        }
        return result.ok();
      },
      options, call);
  if (!rejected.ok()) return rejected;
  if (!status.ok()) return status;
  return results;
}

}  // namespace backprop
