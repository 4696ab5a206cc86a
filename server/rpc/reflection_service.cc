#include "server/rpc/reflection_service.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backprop/v1/admin_service.grpc.pb.h"
#include "backprop/v1/training_service.grpc.pb.h"
#include "server/base/status.h"
#include "server/rpc/call/hand_over.h"
#include "server/rpc/call/incoming.h"
#include "server/rpc/call/status.h"

namespace backprop::rpc {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;

const DescriptorPool& Pool() { return *DescriptorPool::generated_pool(); }

std::vector<std::string> Services() {
  return {v1::AdminService::service_full_name(), v1::TrainingService::service_full_name(),
          "grpc.channelz.v1.Channelz",           "grpc.health.v1.Health",
          "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"};
}

// Responds to the requests of a stream one at a time. Deletes itself in OnDone. At most one
// operation is pending, so no lock is needed. When the server stops, the stream ends with its
// connection. The messages of both versions have the same fields.
template <class Request, class Response>
class ReflectionStream final : public grpc::ServerBidiReactor<Incoming<Request>, Response> {
 public:
  ReflectionStream() { Read(); }

  void OnReadDone(bool ok) override {
    TakeOver(this);
    if (!ok) return End(absl::OkStatus());
    ++number_;
    if (const absl::Status parsed = request_.Parse(); !parsed.ok()) {
      return End(AboutMessage(number_, parsed));
    }
    response_.Clear();
    *response_.mutable_original_request() = request_.message();
    response_.set_valid_host(request_.message().host());
    Answer(request_.message());
    HandOver(this);
    this->StartWrite(&response_);
  }

  void OnWriteDone(bool ok) override {
    TakeOver(this);
    if (!ok) return End(base::CallerGone());
    Read();
  }

  void OnDone() override {
    TakeOver(this);
    delete this;
  }

 private:
  ~ReflectionStream() override = default;

  void Read() {
    HandOver(this);
    this->StartRead(&request_);
  }

  void End(const absl::Status& status) {
    HandOver(this);
    this->Finish(ToGrpc(status));
  }

  void Answer(const Request& request) {
    switch (request.message_request_case()) {
      case Request::kFileByFilename:
        return AnswerFile(Pool().FindFileByName(request.file_by_filename()));
      case Request::kFileContainingSymbol:
        return AnswerFile(Pool().FindFileContainingSymbol(request.file_containing_symbol()));
      case Request::kFileContainingExtension: {
        const auto& wanted = request.file_containing_extension();
        const google::protobuf::Descriptor* type =
            Pool().FindMessageTypeByName(wanted.containing_type());
        const FieldDescriptor* extension =
            type == nullptr ? nullptr
                            : Pool().FindExtensionByNumber(type, wanted.extension_number());
        return AnswerFile(extension == nullptr ? nullptr : extension->file());
      }
      case Request::kAllExtensionNumbersOfType:
        return AnswerExtensions(request.all_extension_numbers_of_type());
      case Request::kListServices:
        for (const std::string& name : Services()) {
          response_.mutable_list_services_response()->add_service()->set_name(name);
        }
        return;
      case Request::MESSAGE_REQUEST_NOT_SET:
        break;
    }
    Error(grpc::StatusCode::INVALID_ARGUMENT, "message_request: is required");
  }

  // Adds the file, and its dependencies unless this stream has sent them already.
  void AnswerFile(const FileDescriptor* file) {
    if (file == nullptr)
      return Error(grpc::StatusCode::NOT_FOUND, "no such file, symbol or extension");
    sent_.erase(file->name());
    AddFile(*file);
  }

  void AddFile(const FileDescriptor& file) {
    if (!sent_.insert(file.name()).second) return;
    google::protobuf::FileDescriptorProto description;
    file.CopyTo(&description);
    response_.mutable_file_descriptor_response()->add_file_descriptor_proto(
        description.SerializeAsString());
    for (int i = 0; i < file.dependency_count(); ++i) AddFile(*file.dependency(i));
  }

  void AnswerExtensions(const std::string& name) {
    const google::protobuf::Descriptor* type = Pool().FindMessageTypeByName(name);
    if (type == nullptr) return Error(grpc::StatusCode::NOT_FOUND, "no such message type");
    std::vector<const FieldDescriptor*> extensions;
    Pool().FindAllExtensions(type, &extensions);
    auto* answer = response_.mutable_all_extension_numbers_response();
    answer->set_base_type_name(name);
    for (const FieldDescriptor* extension : extensions) {
      answer->add_extension_number(extension->number());
    }
  }

  void Error(grpc::StatusCode code, const std::string& message) {
    response_.mutable_error_response()->set_error_code(code);
    response_.mutable_error_response()->set_error_message(message);
  }

  Incoming<Request> request_;
  Response response_;
  int64_t number_ = 0;
  std::set<std::string> sent_;  // names of files; there are approximately 20
};

template <class Request, class Response>
grpc::ServerBidiReactor<Incoming<Request>, Response>* StartReflection(Context* /*context*/,
                                                                      const CallInfo& /*info*/) {
  return new ReflectionStream<Request, Response>;
}

}  // namespace

ReflectionService::ReflectionService(Context* context)
    : ServiceBase(context, context->reflection_is_public) {
  BidiStreaming("ServerReflectionInfo",
                StartReflection<grpc::reflection::v1::ServerReflectionRequest,
                                grpc::reflection::v1::ServerReflectionResponse>);
}

ReflectionServiceV1Alpha::ReflectionServiceV1Alpha(Context* context)
    : ServiceBase(context, context->reflection_is_public) {
  BidiStreaming("ServerReflectionInfo",
                StartReflection<grpc::reflection::v1alpha::ServerReflectionRequest,
                                grpc::reflection::v1alpha::ServerReflectionResponse>);
}

}  // namespace backprop::rpc
