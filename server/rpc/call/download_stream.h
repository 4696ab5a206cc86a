// Calls that stream a file to the caller.
#ifndef BACKPROP_SERVER_RPC_CALL_DOWNLOAD_STREAM_H_
#define BACKPROP_SERVER_RPC_CALL_DOWNLOAD_STREAM_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/exec/compute_pool.h"
#include "server/rpc/call/sending.h"
#include "server/rpc/call/stream.h"
#include "server/session/errors.h"

namespace backprop::rpc {

// Produces the bytes of the file. Called by one thread at a time.
class ChunkSource {
 public:
  virtual ~ChunkSource() = default;
  // Returns the next 1 byte to 1 MiB; nothing at the end of the file. An error ends the call.
  virtual absl::StatusOr<std::optional<std::string>> Next() = 0;
};

// A file whose memory is counted while it is sent.
class CountedSource final : public ChunkSource {
 public:
  // Returns `source` with a claim for `bytes`, which the source holds, and for what one download
  // holds in chunks; or the error of `source`, or of Sending::Ask.
  static absl::StatusOr<std::unique_ptr<ChunkSource>> Of(
      absl::StatusOr<std::unique_ptr<ChunkSource>> source, int64_t bytes, Sending* sending) {
    constexpr int64_t kChunks = int64_t{4} << 20;  // fetched, serialized, and in gRPC's buffers
    if (!source.ok()) return source;
    auto claim = sending->Ask(bytes + kChunks, "the download");
    if (!claim.ok()) return claim.status();
    return std::unique_ptr<ChunkSource>(new CountedSource(*std::move(source), *std::move(claim)));
  }
  absl::StatusOr<std::optional<std::string>> Next() override { return source_->Next(); }

 private:
  CountedSource(std::unique_ptr<ChunkSource> source, Sending::Claim claim)
      : claim_(std::move(claim)), source_(std::move(source)) {}

  const Sending::Claim claim_;
  const std::unique_ptr<ChunkSource> source_;
};

// Fetches a chunk on the compute pool, writes it, and fetches the next chunk when gRPC has taken
// this one. A server that stops ends the call before the next chunk is fetched. The call is
// cancelled when the caller reads no chunk for the idle timeout (Calls::EndIdle).
template <class Response>
class DownloadStream final : public Stream<NoStream, Response> {
 public:
  // If `source` is an error, the call ends with it.
  static DownloadStream* Start(const CallInfo& info, const std::string& model,
                               exec::ComputePool* pool,
                               absl::StatusOr<std::unique_ptr<ChunkSource>> source) {
    const auto stream = Make(info, model, pool);
    stream->Attach(std::move(source));
    return stream.get();
  }
  // Attach must be called once for the result.
  static std::shared_ptr<DownloadStream> Make(const CallInfo& info, const std::string& model,
                                              exec::ComputePool* pool) {
    return MakeStream<DownloadStream>(info, model, pool);
  }
  DownloadStream(const CallInfo& info, const std::string& model, exec::ComputePool* pool)
      : Stream<NoStream, Response>(info, model), pool_(pool) {}

  // Starts to send a file, or ends the call with an error.
  void Attach(absl::StatusOr<std::unique_ptr<ChunkSource>> source) {
    {
      const base::MutexLock lock(&this->mu_);
      fetching_ = false;
      if (source.ok()) {
        source_ = *std::move(source);
      } else {
        end_ = source.status();
      }
    }
    this->Pump();
  }

  void OnWriteDone(bool ok) override { this->HasWritten(ok); }

 private:
  Due Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
    if (fetching_ || this->writing()) return {};
    if (this->cancelled()) return {.end = base::CallerGone()};
    if (end_.has_value()) return {.end = end_};
    if (fetched_) {
      fetched_ = false;
      return {.write = true};
    }
    if (this->stopping()) return {.end = session::ShuttingDown()};
    fetching_ = true;
    return {.work = true};
  }

  void Work() override {
    pool_->Post(exec::Priority::kInteractive, [this, self = this->shared_from_this()] {
      auto chunk = source_->Next();
      {
        const base::MutexLock lock(&this->mu_);
        fetching_ = false;
        if (chunk.ok() && chunk->has_value()) {
          this->response_.set_data(**std::move(chunk));
          fetched_ = true;
        } else {
          end_ = chunk.status();
        }
      }
      this->Pump();
    });
  }

  exec::ComputePool* const pool_;
  std::unique_ptr<ChunkSource> source_;              // used by the task that fetches
  bool fetching_ ABSL_GUARDED_BY(this->mu_) = true;  // a chunk, or before Attach the source
  bool fetched_ ABSL_GUARDED_BY(this->mu_) = false;  // response_ holds a chunk
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(this->mu_);
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_DOWNLOAD_STREAM_H_
