// Streamed calls: uploads of datasets, models and backups as files.
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "backprop/client.h"
#include "client/backprop/calls.h"

namespace backprop {
namespace {

constexpr int64_t kChunkBytes = int64_t{1} << 20;
constexpr size_t kPieceBytes = size_t{1} << 20;

// Extends a CRC-32 by numbers in the precision in which the server stores them.
uint32_t AddNumbers(uLong crc, const std::vector<double>& numbers, DataType type) {
  if (type == DataType::kFloat64) {
    return static_cast<uint32_t>(crc32_z(crc, reinterpret_cast<const Bytef*>(numbers.data()),
                                         numbers.size() * sizeof(double)));
  }
  const std::vector<float> floats(numbers.begin(), numbers.end());
  return static_cast<uint32_t>(
      crc32_z(crc, reinterpret_cast<const Bytef*>(floats.data()), floats.size() * sizeof(float)));
}

uint32_t AddNumbers(uLong crc, const Tensor& tensor, DataType type) {
  if (tensor.type() != type) return AddNumbers(crc, tensor.ToDoubles(), type);
  return static_cast<uint32_t>(
      crc32_z(crc, reinterpret_cast<const Bytef*>(tensor.bytes().data()), tensor.bytes().size()));
}

// The checksum of rows whose classes are indices.
uint32_t ChecksumOf(const Batch& rows, DataType type) {
  uLong crc = AddNumbers(crc32_z(0, nullptr, 0), rows.inputs, type);
  if (!rows.labels.empty()) {
    crc = crc32_z(crc, reinterpret_cast<const Bytef*>(rows.labels.data()),
                  rows.labels.size() * sizeof(int32_t));
  }
  if (!rows.targets.empty()) crc = AddNumbers(crc, rows.targets, type);
  if (!rows.sample_weights.empty()) crc = AddNumbers(crc, rows.sample_weights, type);
  return static_cast<uint32_t>(crc);
}

static_assert(static_cast<int>(ModelFileFormat::kDefault) == v1::MODEL_FILE_FORMAT_UNSPECIFIED);
static_assert(static_cast<int>(ModelFileFormat::kBackprop) == v1::MODEL_FILE_FORMAT_BACKPROP);
static_assert(static_cast<int>(ModelFileFormat::kOnnx) == v1::MODEL_FILE_FORMAT_ONNX);

// A client stream: its context, credentials, deadline and cancellation.
template <class Request, class Response>
class Upload {
 public:
  template <class Open>
  Upload(const Credentials& credentials, const CallOptions& call, const Attempts& attempts,
         const Open& open)
      : call_(call), scope_(call, &context_), authorized_(credentials.Authorize(&context_)) {
    attempts.Prepare(&context_);
    if (authorized_.ok()) writer_ = open(&context_, &response_);
  }
  // Returns false if the call has ended.
  bool Write(const Request& request) { return writer_ != nullptr && writer_->Write(request); }
  grpc::Status Finish() {
    if (writer_ == nullptr) return authorized_;
    writer_->WritesDone();
    return Plain(writer_->Finish(), Cancelled(call_));
  }
  const Response& response() const { return response_; }

 private:
  const CallOptions& call_;
  grpc::ClientContext context_;
  const CancelScope scope_;
  const grpc::Status authorized_;
  Response response_;
  std::unique_ptr<grpc::ClientWriter<Request>> writer_;  // null if the call is not authorized
};

// A spec with the loss and the optimiser of the options.
ModelSpec SpecOf(const ImportOptions& import) {
  ModelSpec spec;
  if (import.loss.has_value()) spec.loss = *import.loss;
  if (!import.optimizer.has_value()) return spec;
  spec.optimizer = import.optimizer->optimizer;
  spec.schedule = import.optimizer->schedule;
  spec.l1 = import.optimizer->l1;
  spec.clipping = import.optimizer->clipping;
  return spec;
}

// Passes every chunk of a stream to `sink`. Retried until the first chunk has arrived.
template <class Response, class Open>
grpc::Status Download(const Credentials& credentials, const RetryOptions& retry,
                      const CallOptions& call, const ByteSink& sink, const Open& open) {
  Attempts attempts(retry, call);
  for (;;) {
    grpc::ClientContext context;
    grpc::Status status = credentials.Authorize(&context);
    if (!status.ok()) return status;
    const CancelScope scope(call, &context);
    attempts.Prepare(&context);
    const auto reader = open(&context);
    Response response;
    bool begun = false;
    bool wanted = true;
    while (reader->Read(&response)) {
      begun = true;
      if (wanted && !sink(response.data())) {
        wanted = false;
        context.TryCancel();
      }
    }
    status = Plain(reader->Finish(), !wanted || Cancelled(call));
    if (status.ok() || begun || !attempts.Again(&status)) return status;
  }
}

// Sends the bytes of `source` in chunks that fit in a message. `first` is the message of the first
// chunk.
template <class Request, class Response>
grpc::Status SendFile(Upload<Request, Response>* upload, Request first, const ByteSource& source) {
  Request request = std::move(first);
  bool open = true;
  while (open) {
    auto bytes = source();
    if (!bytes.has_value()) break;
    for (size_t at = 0; open && at < bytes->size(); at += kPieceBytes) {
      request.set_data(bytes->substr(at, kPieceBytes));
      open = upload->Write(request);
      request.Clear();
    }
  }
  return upload->Finish();
}

// With ROWS_MISSING: the first row that the server does not have.
std::optional<int64_t> ExpectedRow(const grpc::Status& status) {
  const Status details = FromGrpc(status);
  const auto row = details.metadata.find("expected_row");
  if (details.reason != "ROWS_MISSING" || row == details.metadata.end()) return std::nullopt;
  return std::strtoll(row->second.c_str(), nullptr, 10);
}

}  // namespace

RepeatableSource FileSource(const std::string& path) {
  return {[path]() -> ByteSource {
    const auto file = std::make_shared<std::ifstream>(path, std::ios::binary);
    if (!*file) return nullptr;
    return [file]() -> std::optional<std::string> {
      std::string bytes(kPieceBytes, '\0');
      file->read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      bytes.resize(static_cast<size_t>(file->gcount()));
      if (bytes.empty()) return std::nullopt;
      return bytes;
    };
  }};
}

Result<DatasetInfo> Client::UploadDataset(const std::string& id, const RowSource& rows,
                                          const UploadOptions& upload, const CallOptions& call) {
  v1::UploadDatasetRequest header;
  const std::string prefix = "datasets/";
  header.mutable_header()->set_dataset_id(DatasetName(id).substr(prefix.size()));
  Violations wrong;
  CheckName("dataset_id", header.header().dataset_id(), &wrong);
  if (!wrong.empty()) return InvalidUnlessEmpty(std::move(wrong));
  header.mutable_header()->set_data_type(ToMessage(upload.data_type));
  header.mutable_header()->mutable_labels()->insert(upload.labels.begin(), upload.labels.end());
  header.mutable_header()->mutable_feature_names()->Add(upload.feature_names.begin(),
                                                        upload.feature_names.end());
  header.mutable_header()->set_request_id(RequestId(call));
  Attempts attempts(impl_->options.retry, call);
  int64_t known = 0;  // number of rows that the server has
  for (;;) {
    Upload<v1::UploadDatasetRequest, v1::UploadDatasetResponse> stream(
        *impl_->credentials, call, attempts,
        [&](grpc::ClientContext* context, v1::UploadDatasetResponse* response) {
          return impl_->stub->UploadDataset(context, response);
        });
    bool open = stream.Write(header);
    int64_t sent = known;
    while (open) {
      const auto chunk = rows(sent);
      v1::UploadDatasetRequest request;
      if (!chunk.has_value()) {
        request.mutable_commit()->set_rows(sent);
        stream.Write(request);
        break;
      }
      request.mutable_chunk()->set_first_row(sent);
      ToMessage(*chunk, request.mutable_chunk()->mutable_rows());
      CheckBatch("chunk.rows", request.chunk().rows(), &wrong);
      if (!wrong.empty()) return InvalidUnlessEmpty(std::move(wrong));
      // The server assigns the indices of class names.
      if (chunk->label_names.empty()) {
        request.mutable_chunk()->set_crc32(ChecksumOf(*chunk, upload.data_type));
      }
      sent += chunk->inputs.rows();
      open = stream.Write(request);
      if (open && upload.on_progress) upload.on_progress(sent);
    }
    grpc::Status status = stream.Finish();
    if (status.ok()) {
      if (impl_->options.on_reply) impl_->options.on_reply(stream.response());
      return FromMessage(stream.response().dataset());
    }
    const auto expected = ExpectedRow(status);
    if (expected.has_value() && *expected < sent) {
      // The server has lost rows that it had when it was asked, because it was killed since.
      status = grpc::Status(grpc::StatusCode::UNAVAILABLE, status.error_message());
    }
    if (!attempts.Again(&status)) return impl_->Ended(status);
    const auto there = GetDataset(id, call);
    const int64_t now = there.ok() ? there->rows : 0;
    if (now > known) attempts.Reset();
    known = now;
  }
}

Result<DatasetInfo> Client::UploadDataset(const std::string& id, const Batch& rows,
                                          const UploadOptions& upload, const CallOptions& call) {
  const int64_t all = rows.inputs.rows();
  const int64_t row_bytes = 8 * (rows.inputs.cols() + rows.targets.cols() + 2);
  const int64_t at_once = std::max<int64_t>(1, kChunkBytes / row_bytes);
  return UploadDataset(
      id,
      [&](int64_t first) -> std::optional<Batch> {
        if (first >= all) return std::nullopt;
        return Rows(rows, first, std::min(at_once, all - first));
      },
      upload, call);
}

Status Client::ExportModel(const std::string& model, const ByteSink& sink,
                           const CallOptions& call) {
  return ExportModel(model, ModelFileFormat::kDefault, sink, call);
}

Status Client::ExportModel(const std::string& model, ModelFileFormat format, const ByteSink& sink,
                           const CallOptions& call) {
  v1::ExportModelRequest request;
  request.set_model(ResourceName(model));
  request.set_format(static_cast<v1::ModelFileFormat>(format));
  if (Status invalid = CheckRequest(request); !invalid.ok()) return invalid;
  return impl_->Ended(Download<v1::ExportModelResponse>(
      *impl_->credentials, impl_->options.retry, call, sink,
      [&](grpc::ClientContext* context) { return impl_->stub->ExportModel(context, request); }));
}

Result<ModelInfo> Client::ImportModel(const RepeatableSource& source, const ImportOptions& import,
                                      const CallOptions& call) {
  v1::ImportModelRequest first;
  first.set_model_id(import.model_id);
  first.set_durability(static_cast<v1::Durability>(import.durability));
  first.set_request_id(RequestId(call));
  first.set_format(static_cast<v1::ModelFileFormat>(import.format));
  v1::ModelSpec spec;
  ToMessage(SpecOf(import), &spec);
  if (import.loss.has_value()) first.mutable_loss()->Swap(spec.mutable_loss());
  if (import.optimizer.has_value()) first.mutable_optimizer()->Swap(spec.mutable_optimizer());
  Attempts attempts(impl_->options.retry, call);
  Status failed = InvalidUnlessEmpty({{"source", "cannot be opened"}});
  for (;;) {
    const ByteSource bytes = source.open();
    if (bytes == nullptr) return failed;
    Upload<v1::ImportModelRequest, v1::ImportModelResponse> stream(
        *impl_->credentials, call, attempts,
        [&](grpc::ClientContext* context, v1::ImportModelResponse* response) {
          return impl_->stub->ImportModel(context, response);
        });
    grpc::Status status = SendFile(&stream, first, bytes);
    if (status.ok()) {
      if (impl_->options.on_reply) impl_->options.on_reply(stream.response());
      return FromMessage(stream.response().model());
    }
    failed = impl_->Ended(status);
    if (!attempts.Again(&status)) return impl_->Ended(status);
  }
}

Result<ModelInfo> Client::ImportModel(const ByteSource& source, const ImportOptions& import,
                                      const CallOptions& call) {
  bool read = false;
  const RepeatableSource once{[&]() -> ByteSource {
    if (read) return nullptr;
    return [&] {
      read = true;
      return source();
    };
  }};
  return ImportModel(once, import, call);
}

Status Client::CreateBackup(const ByteSink& sink, const CallOptions& call) {
  return CreateBackup("", sink, call);
}

Status Client::CreateBackup(const std::string& project, const ByteSink& sink,
                            const CallOptions& call) {
  v1::CreateBackupRequest request;
  if (!project.empty()) request.set_project(ProjectName(project));
  return impl_->Ended(Download<v1::CreateBackupResponse>(
      *impl_->credentials, impl_->options.retry, call, sink,
      [&](grpc::ClientContext* context) { return impl_->admin->CreateBackup(context, request); }));
}

Result<RestoredBackup> Client::RestoreBackup(const ByteSource& source, const CallOptions& call) {
  const Attempts attempts(impl_->options.retry, call);
  Upload<v1::RestoreBackupRequest, v1::RestoreBackupResponse> stream(
      *impl_->credentials, call, attempts,
      [&](grpc::ClientContext* context, v1::RestoreBackupResponse* response) {
        return impl_->admin->RestoreBackup(context, response);
      });
  const grpc::Status status = SendFile(&stream, v1::RestoreBackupRequest(), source);
  if (!status.ok()) return impl_->Ended(status);
  if (impl_->options.on_reply) impl_->options.on_reply(stream.response());
  return RestoredBackup{stream.response().models(), stream.response().runs()};
}

}  // namespace backprop
