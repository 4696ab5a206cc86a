// ExportModel, ImportModel.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backprop/v1/model_file.pb.h"
#include "server/base/status.h"
#include "server/codec/model_codec.h"
#include "server/codec/parameters_codec.h"
#include "server/rpc/describe_model.h"
#include "server/rpc/handlers.h"
#include "server/session/errors.h"
#include "server/transfer/framed.h"

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
      create_.set_model_id(message.model_id());
      create_.set_request_id(message.request_id());
      create_.set_durability(message.durability());
    } else if (!message.model_id().empty() || !message.request_id().empty() ||
               message.durability() != v1::DURABILITY_UNSPECIFIED) {
      const char* const field = !message.model_id().empty()     ? "model_id"
                                : !message.request_id().empty() ? "request_id"
                                                                : "durability";
      return next(base::FieldError(field, "is allowed only in the first message"));
    }
    next(Add(message.data()));
  }

  std::string resource() const override {
    if (!response_->model().name().empty()) return response_->model().name();
    return create_.model_id().empty() ? "" : absl::StrCat("models/", create_.model_id());
  }

  void End(Next done) override {
    const absl::Status complete = reader_.CheckComplete();
    if (!complete.ok()) return done(base::FieldError("data", complete.message()));
    const absl::Status room = CheckRoom(static_cast<int64_t>(content_.size()));
    if (!room.ok()) return done(room);
    v1::ModelFile file;
    if (!file.ParseFromString(content_) || !file.has_parameters()) {
      return done(base::FieldError("data", "does not contain a model"));
    }
    content_ = std::string();
    create_.mutable_spec()->Swap(file.mutable_model()->mutable_spec());
    create_.mutable_labels()->swap(*file.mutable_model()->mutable_labels());
    if (file.model().has_ttl()) create_.mutable_ttl()->Swap(file.mutable_model()->mutable_ttl());
    create_.mutable_initial_parameters()->Swap(file.mutable_parameters());
    CreateFrom(
        context_, caller_->project, "ImportModel", create_, [] { return false; },
        response_->mutable_model(), std::move(done));
  }

 private:
  absl::Status CheckRoom(int64_t bytes) const {
    return session::CheckRoom(context_->environment->store, bytes, "the import");
  }
  absl::Status Add(absl::string_view data) {
    if (content_.size() + data.size() > most_bytes_) {
      return base::LimitError(
          "data", absl::StrCat("the file exceeds ", most_bytes_,
                               " bytes, the maximum for a model within the server's limits"));
    }
    const absl::Status added = reader_.Add(data, [&](absl::string_view payload) {
      content_.append(payload.data(), payload.size());
      return absl::OkStatus();
    });
    return added.ok() ? added : base::FieldError("data", added.message());
  }

  Context* const context_;
  const CallerPtr caller_;
  v1::ImportModelResponse* const response_;
  const size_t most_bytes_;
  bool begun_ = false;
  transfer::FrameReader reader_{std::string(kMagic)};
  std::string content_;
  v1::CreateModelRequest create_;
};

}  // namespace

std::unique_ptr<ChunkSource> ExportOf(const ModelPtr& model) {
  return std::make_unique<ModelSource>(model, model->Read());
}

std::unique_ptr<Receiver<v1::ImportModelRequest>> ImportInto(Context* context,
                                                             const CallerPtr& caller,
                                                             v1::ImportModelResponse* response) {
  return std::make_unique<ModelReceiver>(context, caller, response);
}

}  // namespace backprop::rpc
