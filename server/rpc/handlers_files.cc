// ExportModel, ImportModel.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "backprop/v1/model_file.pb.h"
#include "server/base/status.h"
#include "server/codec/model_codec.h"
#include "server/codec/parameters_codec.h"
#include "server/rpc/describe_model.h"
#include "server/rpc/handlers.h"
#include "server/session/errors.h"
#include "server/transfer/framed.h"
#include "server/transfer/onnx_export.h"
#include "server/transfer/onnx_file.h"
#include "server/transfer/onnx_import.h"

namespace backprop::rpc {
namespace {

constexpr absl::string_view kMagic("BPMODEL\x01",
                                   transfer::kMagicBytes);     // the last byte: format version
constexpr size_t kChunkBytes = transfer::kMaxFrameBytes - 64;  // with the frame's header: < 1 MiB

// The file of a model. The first Next() serializes all of it, so that it runs on the compute pool.
class ModelSource final : public ChunkSource {
 public:
  ModelSource(std::shared_ptr<session::Session> model, session::Session::StatePtr state)
      : model_(std::move(model)), state_(std::move(state)) {}

  absl::StatusOr<std::optional<std::string>> Next() override {
    if (state_ != nullptr) {
      v1::ModelFile file;
      DescribeModel(*model_, {state_->step, ""}, file.mutable_model());
      codec::EncodeParameters(model_->network(), *state_, v1::TENSOR_ENCODING_RAW,
                              /*with_optimizer_state=*/true, file.mutable_parameters());
      file.set_writer("backpropd");
      if (!file.SerializeToString(&content_)) {
        return base::LimitError("model", "the exported file would exceed 2 GiB");
      }
      state_ = nullptr;
      return transfer::FrameWriter::Begin(kMagic);
    }
    if (at_ < content_.size()) {
      const auto chunk = absl::string_view(content_).substr(at_, kChunkBytes);
      at_ += chunk.size();
      return writer_.Frame(chunk);
    }
    if (std::exchange(ended_, true)) return std::nullopt;
    return writer_.End();
  }

 private:
  const std::shared_ptr<session::Session> model_;
  session::Session::StatePtr state_;  // null once content_ is set
  std::string content_;
  size_t at_ = 0;
  bool ended_ = false;
  transfer::FrameWriter writer_;
};

// The ONNX file of a model. The first Next() serializes all of it.
class OnnxSource final : public ChunkSource {
 public:
  OnnxSource(std::shared_ptr<session::Session> model, session::Session::StatePtr state)
      : model_(std::move(model)), state_(std::move(state)) {}

  absl::StatusOr<std::optional<std::string>> Next() override {
    if (state_ != nullptr) {
      v1::Model description;
      DescribeModel(*model_, {state_->step, ""}, &description);
      auto content = transfer::ExportOnnx(description, model_->network(), *state_);
      if (!content.ok()) return content.status();
      content_ = *std::move(content);
      state_ = nullptr;
    }
    if (at_ >= content_.size()) return std::nullopt;
    const auto chunk = absl::string_view(content_).substr(at_, transfer::kMaxFrameBytes);
    at_ += chunk.size();
    return std::string(chunk);
  }

 private:
  const std::shared_ptr<session::Session> model_;
  session::Session::StatePtr state_;  // null once content_ is set
  std::string content_;
  size_t at_ = 0;
};

absl::Status UnknownFormat(v1::ModelFileFormat format) {
  return base::FieldError(
      "format", absl::StrCat("expected BACKPROP or ONNX, got ", static_cast<int>(format)));
}

// Collects a file, checks it, and creates its model like CreateModel.
class ModelReceiver final : public Receiver<v1::ImportModelRequest> {
 public:
  ModelReceiver(Context* context, CallerPtr caller, v1::ImportModelResponse* response)
      : context_(context),
        caller_(std::move(caller)),
        response_(response),
        // 8 bytes for each parameter and for each value of at most two slots, and 4 MiB for the
        // other fields.
        most_bytes_(static_cast<size_t>(24 * context->limits().max_parameters) +
                    (size_t{4} << 20)) {}

  void Take(const v1::ImportModelRequest& message, Next next) override {
    if (!std::exchange(begun_, true)) {
      if (const absl::Status room = CheckRoom(0); !room.ok()) return next(room);
      const absl::Status begun = Begin(message);
      if (!begun.ok()) return next(begun);
    } else if (const char* const field = FieldOfFirst(message)) {
      return next(base::FieldError(field, "is allowed only in the first message"));
    }
    next(Add(message.data()));
  }

  std::string resource() const override {
    if (!response_->model().name().empty()) return response_->model().name();
    return create_.model_id().empty() ? "" : absl::StrCat("models/", create_.model_id());
  }

  void End(Next done) override {
    if (format_ != v1::MODEL_FILE_FORMAT_ONNX) return Create(ReadOwn(), std::move(done));
    // An operation for each byte, about.
    context_->environment->pool->RunOrPost(
        static_cast<int64_t>(content_.size()),
        [this, done = std::move(done)]() mutable { Create(ReadOnnx(), std::move(done)); });
  }

 private:
  void Create(absl::StatusOr<v1::ModelFile> file, Next done) {
    if (!file.ok()) return done(file.status());
    content_ = std::string();
    create_.mutable_spec()->Swap(file->mutable_model()->mutable_spec());
    create_.mutable_labels()->swap(*file->mutable_model()->mutable_labels());
    if (file->model().has_ttl()) create_.mutable_ttl()->Swap(file->mutable_model()->mutable_ttl());
    create_.mutable_initial_parameters()->Swap(file->mutable_parameters());
    CreateFrom(
        context_, caller_->project, "ImportModel", create_, [] { return false; },
        response_->mutable_model(),
        [this, done = std::move(done)](const absl::Status& status) mutable {
          done(AboutRequest(status));
        });
  }

  absl::Status CheckRoom(int64_t bytes) const {
    return session::CheckRoom(context_->environment->store, bytes, "the import");
  }
  // Renames the fields of a spec in an error to those of the request from which they were taken.
  absl::Status AboutRequest(const absl::Status& status) const {
    auto violations = base::FieldViolationsOf(status);
    bool renamed = false;
    for (base::FieldViolation& violation : violations) {
      for (const auto& [given, field] : {std::pair(loss_.has_value(), "spec.loss"),
                                         std::pair(optimizer_.has_value(), "spec.optimizer")}) {
        if (!given || !absl::StartsWith(violation.field, field)) continue;
        violation.field = std::string(absl::StripPrefix(violation.field, "spec."));
        renamed = true;
      }
    }
    return renamed ? base::FieldErrors(violations) : status;
  }

  // The name of a field that only the first message may have, if `message` has one.
  static const char* FieldOfFirst(const v1::ImportModelRequest& message) {
    if (!message.model_id().empty()) return "model_id";
    if (!message.request_id().empty()) return "request_id";
    if (message.durability() != v1::DURABILITY_UNSPECIFIED) return "durability";
    if (message.format() != v1::MODEL_FILE_FORMAT_UNSPECIFIED) return "format";
    if (message.has_loss()) return "loss";
    if (message.has_optimizer()) return "optimizer";
    return nullptr;
  }

  absl::Status Begin(const v1::ImportModelRequest& first) {
    if (!v1::ModelFileFormat_IsValid(first.format())) return UnknownFormat(first.format());
    create_.set_model_id(first.model_id());
    create_.set_request_id(first.request_id());
    create_.set_durability(first.durability());
    format_ = first.format();
    if (first.has_loss()) loss_ = first.loss();
    if (first.has_optimizer()) optimizer_ = first.optimizer();
    return absl::OkStatus();
  }

  absl::Status Add(absl::string_view data) {
    if (format_ == v1::MODEL_FILE_FORMAT_UNSPECIFIED && !data.empty()) {
      format_ = transfer::StartsLikeOnnx(data) ? v1::MODEL_FILE_FORMAT_ONNX
                                               : v1::MODEL_FILE_FORMAT_BACKPROP;
    }
    if (content_.size() + data.size() > most_bytes_) {
      return base::LimitError(
          "data", absl::StrCat("the file exceeds ", most_bytes_,
                               " bytes, the maximum for a model within the server's limits"));
    }
    if (format_ == v1::MODEL_FILE_FORMAT_ONNX) {
      content_.append(data.data(), data.size());
      return absl::OkStatus();
    }
    for (const auto& [given, field] :
         {std::pair(loss_.has_value(), "loss"), std::pair(optimizer_.has_value(), "optimizer")}) {
      if (given) return base::FieldError(field, "is allowed only with a file in the format ONNX");
    }
    const absl::Status added = reader_.Add(data, [&](absl::string_view payload) {
      content_.append(payload.data(), payload.size());
      return absl::OkStatus();
    });
    return added.ok() ? added : base::FieldError("data", added.message());
  }

  absl::StatusOr<v1::ModelFile> ReadOwn() const {
    const absl::Status complete = reader_.CheckComplete();
    if (!complete.ok()) return base::FieldError("data", complete.message());
    const absl::Status room = CheckRoom(static_cast<int64_t>(content_.size()));
    if (!room.ok()) return room;
    v1::ModelFile file;
    if (!file.ParseFromString(content_) || !file.has_parameters()) {
      return base::FieldError("data", "does not contain a model");
    }
    return file;
  }

  absl::StatusOr<v1::ModelFile> ReadOnnx() const {
    const absl::Status room = CheckRoom(static_cast<int64_t>(content_.size()));
    if (!room.ok()) return room;
    // The parsed file, and the weights in float64 and in the precision of the model.
    const auto memory = context_->MemoryOfRequest(2 * static_cast<int64_t>(content_.size()));
    if (!memory.ok()) return memory.status();
    transfer::OnnxImportOptions options;
    options.max_parameters = context_->limits().max_parameters;
    if (loss_.has_value()) options.loss = &*loss_;
    if (optimizer_.has_value()) options.optimizer = &*optimizer_;
    auto file = transfer::ImportOnnx(content_, options);
    if (file.ok() || file.status().code() != absl::StatusCode::kInvalidArgument) return file;
    return base::FieldError("data", file.status().message());
  }

  Context* const context_;
  const CallerPtr caller_;
  v1::ImportModelResponse* const response_;
  const size_t most_bytes_;
  bool begun_ = false;
  transfer::FrameReader reader_{std::string(kMagic)};
  std::string content_;
  v1::CreateModelRequest create_;
  v1::ModelFileFormat format_ = v1::MODEL_FILE_FORMAT_UNSPECIFIED;  // until the first byte
  std::optional<v1::Loss> loss_;
  std::optional<v1::Optimizer> optimizer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ChunkSource>> ExportOf(const ModelPtr& model,
                                                      v1::ModelFileFormat format) {
  if (!v1::ModelFileFormat_IsValid(format)) return UnknownFormat(format);
  if (format != v1::MODEL_FILE_FORMAT_ONNX) {
    return std::make_unique<ModelSource>(model, model->Read());
  }
  auto state = model->ReadFitted();
  if (!state.ok()) return state.status();
  return std::make_unique<OnnxSource>(model, *std::move(state));
}

std::unique_ptr<Receiver<v1::ImportModelRequest>> ImportInto(Context* context,
                                                             const CallerPtr& caller,
                                                             v1::ImportModelResponse* response) {
  return std::make_unique<ModelReceiver>(context, caller, response);
}

}  // namespace backprop::rpc
