// UploadDataset, GetDataset, ListDatasets, DeleteDataset.
#include <memory>
#include <utility>

#include "server/base/fields.h"
#include "server/base/status.h"
#include "server/codec/dataset_codec.h"
#include "server/codec/names.h"
#include "server/codec/paging.h"
#include "server/datasets/datasets.h"
#include "server/engine/data.h"
#include "server/exec/compute_pool.h"
#include "server/records/dataset_info.h"
#include "server/records/project.h"
#include "server/rpc/handlers.h"
#include "server/rpc/request_key.h"

namespace backprop::rpc {
namespace {

using base::FieldError;
using datasets::Datasets;

class DatasetReceiver final : public Receiver<v1::UploadDatasetRequest> {
 public:
  DatasetReceiver(Context* context, CallerPtr caller, v1::UploadDatasetResponse* response)
      : context_(context), caller_(std::move(caller)), response_(response) {}

  void Take(const v1::UploadDatasetRequest& message, Next next) override {
    const bool is_header = message.part_case() == v1::UploadDatasetRequest::kHeader;
    if (!begun_ && !is_header) {
      return next(FieldError("header", "is required in the first message"));
    }
    if (committed_) return next(FieldError("part", "must not follow the commit"));
    switch (message.part_case()) {
      case v1::UploadDatasetRequest::kHeader:
        if (begun_) return next(FieldError("header", "is allowed only in the first message"));
        return next(Begin(message.header()));
      case v1::UploadDatasetRequest::kChunk:
        // On the pool: to check and write rows takes longer than to switch threads.
        context_->environment->pool->Post(exec::Priority::kInteractive,
                                          [this, &message, next = std::move(next)]() mutable {
                                            Add(message.chunk(), std::move(next));
                                          });
        return;
      case v1::UploadDatasetRequest::kCommit:
        return Commit(message.commit(), std::move(next));
      case v1::UploadDatasetRequest::PART_NOT_SET:
        return next(FieldError("part", "expected header, chunk or commit, got none"));
    }
  }

  std::string resource() const override { return begun_ ? info_.name() : ""; }

  void End(Next done) override {
    if (!begun_) return done(FieldError("header", "is required"));
    codec::EncodeDataset(info_, response_->mutable_dataset());
    done(absl::OkStatus());
  }

 private:
  Datasets* datasets() const { return context_->datasets; }

  absl::Status Begin(const v1::DatasetHeader& header) {
    auto args = codec::DecodeHeader(header);
    if (!args.ok()) return args.status();
    args->id = records::ScopedId(caller_->project, args->id);
    auto info = datasets()->BeginUpload(*std::move(args));
    if (!info.ok()) return info.status();
    info_ = *std::move(info);
    begun_ = true;
    return absl::OkStatus();
  }

  void Add(const v1::DatasetChunk& message, Next next) {
    auto chunk = codec::DecodeChunk(message, info_.data_type, context_->limits());
    Datasets::AppendArgs args;
    args.uid = info_.uid;
    args.first_row = message.first_row();
    if (chunk.ok()) {
      args.rows = std::move(chunk->rows);
    } else if (!absl::IsInvalidArgument(chunk.status())) {
      return next(chunk.status());
    } else {
      args.first_row = 0;
    }
    args.check = [chunk = std::move(chunk)](const records::DatasetInfo& info, engine::Dataset* rows,
                                            std::vector<std::string>* class_names) mutable {
      if (!chunk.ok()) return chunk.status();
      return codec::CheckChunk(info, chunk->claims, rows, class_names);
    };
    datasets()->Append(std::move(args), Answer(std::move(next)));
  }

  void Commit(const v1::DatasetCommit& message, Next next) {
    committed_ = true;
    datasets()->Complete(info_.uid, message.rows(), Answer(std::move(next)));
  }

  Datasets::Callback<records::DatasetInfo> Answer(Next next) {
    return [this, next = std::move(next)](absl::StatusOr<records::DatasetInfo> info) mutable {
      if (!info.ok()) return next(info.status());
      info_ = *std::move(info);
      next(absl::OkStatus());
    };
  }

  Context* const context_;
  const CallerPtr caller_;
  v1::UploadDatasetResponse* const response_;
  bool begun_ = false;
  bool committed_ = false;
  records::DatasetInfo info_;
};

}  // namespace

std::unique_ptr<Receiver<v1::UploadDatasetRequest>> UploadInto(
    Context* context, const CallerPtr& caller, v1::UploadDatasetResponse* response) {
  return std::make_unique<DatasetReceiver>(context, caller, response);
}

void HandleGetDataset(Context* context, UnaryCall* call, const v1::GetDatasetRequest& request,
                      v1::GetDatasetResponse* response) {
  const auto id = codec::ParseDatasetName("name", request.name());
  if (!id.ok()) return call->Done(id.status());
  const auto info = context->datasets->Get(records::ScopedId(call->caller().project, *id));
  if (!info.ok()) return call->Done(info.status());
  codec::EncodeDataset(*info, response->mutable_dataset());
  call->Done(absl::OkStatus());
}

void HandleListDatasets(Context* context, UnaryCall* call, const v1::ListDatasetsRequest& request,
                        v1::ListDatasetsResponse* response) {
  base::Fields fields;
  const size_t page_size = codec::DecodePage(request, "ListDatasets", &fields);
  if (!fields.ok()) return call->Done(fields.status());
  const std::string& project = call->caller().project;
  auto list =
      context->datasets->List(records::ScopedId(project, ""),
                              records::ScopedId(project, request.page_token()), page_size + 1);
  call->Done(codec::EncodePage(
      page_size, list, context->limits(),
      [](const auto& info) { return std::string(records::IdOf(info.id)); }, codec::EncodeDataset,
      response->mutable_datasets(), response->mutable_next_page_token()));
}

void HandleDeleteDataset(Context* context, UnaryCall* call, const v1::DeleteDatasetRequest& request,
                         v1::DeleteDatasetResponse*) {
  const auto id = codec::ParseDatasetName("name", request.name());
  if (!id.ok()) return call->Done(id.status());
  const std::string& project = call->caller().project;
  const auto key = ScopedRequestKeyOf(project, "DeleteDataset", request.request_id(), request);
  if (!key.ok()) return call->Done(key.status());
  context->datasets->Delete(records::ScopedId(project, *id), *key,
                            [call](const absl::Status& status) { call->Done(status); });
}

}  // namespace backprop::rpc
