// How the client makes calls: deadlines, cancellation, retries. Not installed.
#ifndef BACKPROP_CLIENT_CALLS_H_
#define BACKPROP_CLIENT_CALLS_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "backprop/client.h"
#include "backprop/v1/admin_service.grpc.pb.h"
#include "backprop/v1/training_service.grpc.pb.h"
#include "client/backprop/convert.h"
#include "client/backprop/credentials.h"
#include "client/backprop/proxy.h"
#include "client/backprop/requests.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace backprop {

inline std::string ResourceName(const std::string& model) {
  return model.rfind("models/", 0) == 0 ? model : "models/" + model;
}

inline std::string DatasetName(const std::string& dataset) {
  return dataset.rfind("datasets/", 0) == 0 ? dataset : "datasets/" + dataset;
}
inline std::string ProjectName(const std::string& project) {
  return project.rfind("projects/", 0) == 0 ? project : "projects/" + project;
}

inline std::string RandomId() {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::random_device device;
  std::string id;
  for (int i = 0; i < 4; ++i) {
    for (unsigned bits = device(), j = 0; j < 8; ++j, bits >>= 4) id += kDigits[bits & 15];
  }
  return id;
}

inline std::string RequestId(const CallOptions& call) {
  return call.request_id.empty() ? RandomId() : call.request_id;
}

inline bool Cancelled(const CallOptions& call) {
  return call.cancellation.has_value() && call.cancellation->cancelled();
}

// While it exists, a cancellation of the call cancels its context.
class CancelScope {
 public:
  CancelScope(const CallOptions& call, grpc::ClientContext* context)
      : cancellation_(call.cancellation) {
    if (cancellation_.has_value())
      number_ = cancellation_->Add([context] { context->TryCancel(); });
  }
  ~CancelScope() {
    if (cancellation_.has_value()) cancellation_->Remove(number_);
  }
  CancelScope(const CancelScope&) = delete;
  CancelScope& operator=(const CancelScope&) = delete;

 private:
  std::optional<Cancellation> cancellation_;
  int number_ = 0;
};

// How long the server asks to wait before a retry (google.rpc.RetryInfo), at most a minute; nothing
// if it does not say.
inline std::optional<std::chrono::milliseconds> RetryDelay(const grpc::Status& status) {
  const auto delay = FromGrpc(status).retry_delay;
  if (!delay.has_value()) return std::nullopt;
  return std::clamp<std::chrono::milliseconds>(*delay, std::chrono::milliseconds(0),
                                               std::chrono::minutes(1));
}

// Sleeps until the time has passed or the call is cancelled. Returns false if it is cancelled.
inline bool Pause(std::chrono::milliseconds time, const CallOptions& call) {
  if (!call.cancellation.has_value()) {
    std::this_thread::sleep_for(time);
    return true;
  }
  std::mutex mu;
  std::condition_variable changed;
  bool cancelled = false;
  Cancellation cancellation = *call.cancellation;
  const int number = cancellation.Add([&] {
    const std::lock_guard lock(mu);
    cancelled = true;
    changed.notify_all();
  });
  {
    std::unique_lock lock(mu);
    changed.wait_for(lock, time, [&] { return cancelled; });
  }
  cancellation.Remove(number);
  return !call.cancellation->cancelled();
}

// Counts the attempts of a call and pauses between them, within the call's deadline.
class Attempts {
 public:
  // `timeout`: of the call, unless its options have one; nothing: no limit.
  Attempts(const RetryOptions& retry, const CallOptions& call,
           std::optional<std::chrono::milliseconds> timeout = std::nullopt)
      : retry_(retry), call_(call), pause_(retry.first_pause) {
    if (call.timeout.has_value()) timeout = call.timeout;
    if (timeout.has_value()) deadline_ = std::chrono::system_clock::now() + *timeout;
  }

  void Prepare(grpc::ClientContext* context) const {
    if (deadline_ != kNever) context->set_deadline(deadline_);
  }

  // Whether to retry after `status`. If so, sleeps first. Sets it to CANCELLED if the caller
  // cancels meanwhile.
  bool Again(grpc::Status* status) {
    const auto delay = RetryDelay(*status);
    const bool transient =
        status->error_code() == grpc::StatusCode::UNAVAILABLE ||
        (status->error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED && delay.has_value());
    if (!transient || ++made_ >= retry_.max_attempts || Cancelled(call_)) return false;
    // The whole pause is random, so that clients do not all retry at the same time.
    std::uniform_int_distribution<int64_t> jitter(0, pause_.count());
    std::random_device random;
    const auto pause =
        delay.value_or(std::chrono::milliseconds(0)) + std::chrono::milliseconds(jitter(random));
    if (std::chrono::system_clock::now() + pause >= deadline_) return false;
    if (!Pause(pause, call_)) {
      *status = grpc::Status(grpc::StatusCode::CANCELLED, "the caller cancelled the call");
      return false;
    }
    pause_ = std::min(pause_ * 2, retry_.last_pause);
    return true;
  }

  // Called after a success: the next failure is the first again.
  void Reset() {
    made_ = 0;
    pause_ = retry_.first_pause;
  }

 private:
  const RetryOptions& retry_;
  const CallOptions& call_;
  std::chrono::milliseconds pause_;
  static constexpr auto kNever = std::chrono::system_clock::time_point::max();
  std::chrono::system_clock::time_point deadline_ = kNever;
  int made_ = 0;
};

// Converts CANCELLED to UNAVAILABLE if the caller did not cancel: a server that shuts down cancels
// calls, and they may be retried.
inline grpc::Status Plain(const grpc::Status& status, bool cancelled_here) {
  if (status.error_code() != grpc::StatusCode::CANCELLED || cancelled_here) return status;
  return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server cancelled the call");
}

struct Client::Impl {
  ClientOptions options;
  std::unique_ptr<Credentials> credentials;
  std::optional<ProxyChoice> proxy;  // the proxy that connections use
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::TrainingService::Stub> stub;
  std::unique_ptr<v1::AdminService::Stub> admin;
  std::unique_ptr<grpc::health::v1::Health::Stub> health;

  // Converts the final status of a call. If the connection failed, the message names the proxy.
  Status Ended(const grpc::Status& status) const {
    Status ended = FromGrpc(status);
    if (ended.code == StatusCode::kUnavailable && ended.reason.empty() && proxy.has_value()) {
      ended.message += " (through the proxy " + proxy->url + " of " + proxy->variable +
                       "; a host in no_proxy is reached without it)";
    }
    return ended;
  }

  // Makes a unary call with retries, which send the same bytes.
  template <class Stub, class Request, class Response>
  Status Call(Stub* on,
              grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
              const Request& request, const CallOptions& call, Response* response) {
    if (Status invalid = CheckRequest(request); !invalid.ok()) return invalid;
    Attempts attempts(options.retry, call, options.unary_timeout);
    for (;;) {
      grpc::ClientContext context;
      attempts.Prepare(&context);
      grpc::Status status = credentials->Authorize(&context);
      if (status.ok()) {
        const CancelScope scope(call, &context);
        status = Plain((on->*method)(&context, request, response), Cancelled(call));
      }
      if (status.ok()) {
        if (options.on_reply) options.on_reply(*response);
        return {};
      }
      if (!attempts.Again(&status)) return Ended(status);
    }
  }

  // Reads a stream of events up to the summary, reconnecting if needed. `open` starts the stream of
  // a run, empty if it is not yet known, at a sequence number. Every event is reported once.
  template <class Response, class Open>
  Result<TrainingSummary> Follow(const CallOptions& call, const EventCallback& on_event,
                                 bool run_ends_with_call, const Open& open) {
    Attempts attempts(options.retry, call);
    int64_t next = 1;
    std::string run;
    bool reconnected = false;
    for (;;) {
      grpc::ClientContext context;
      attempts.Prepare(&context);
      const grpc::Status authorized = credentials->Authorize(&context);
      if (!authorized.ok()) return Ended(authorized);
      const CancelScope scope(call, &context);
      const auto reader = open(&context, run, next);
      std::optional<TrainingSummary> summary;
      Response response;
      bool goes_on = true;
      while (reader->Read(&response)) {
        attempts.Reset();
        TrainingEvent event = FromMessage(response.event());
        if (event.sequence < next) continue;
        next = event.sequence + 1;
        run = event.run;
        if (options.on_reply) options.on_reply(response);
        if (const auto* end = std::get_if<TrainingSummary>(&event.body)) summary = *end;
        if (goes_on && on_event && !on_event(event)) {
          goes_on = false;
          context.TryCancel();
        }
      }
      grpc::Status status = Plain(reader->Finish(), !goes_on || Cancelled(call));
      if (status.ok() && summary.has_value()) {
        if (reconnected && run_ends_with_call && summary->stop_reason == StopReason::kCancelled) {
          Status broken;
          broken.code = StatusCode::kUnavailable;
          broken.reason = "CONNECTION_BROKE";
          broken.message = "the connection broke, which stopped the run after " +
                           std::to_string(summary->iterations) +
                           " iterations; a detached run would have continued";
          return broken;
        }
        return *summary;
      }
      if (!goes_on || !attempts.Again(&status)) {
        Status failed = Ended(status);
        if (failed.ok()) {
          failed.code = StatusCode::kUnavailable;
          failed.message = "the stream ended without a summary";
        }
        return failed;
      }
      reconnected = true;
    }
  }
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_CALLS_H_
