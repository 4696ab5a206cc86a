#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/auth/token.h"
#include "tests/bench/rpc_bench.h"
#include "tests/rpc/test_certificates.h"
#include "tests/temporary_directory.h"

namespace backprop::bench {
namespace {

constexpr char kPlain[] = "clear text, anonymous";
constexpr char kUncounted[] = "calls are not counted";

// One server, and how it is called.
struct Variant {
  std::string name;  // of the row
  std::unique_ptr<BenchServer> server;
  std::unique_ptr<Connection> connection;
  bool sends_token;
  std::vector<double> microseconds = {};
};

// The files of servers with tokens and TLS.
class Secrets {
 public:
  Secrets() : certificate_({.authority = true}) {
    rpc::WriteFile(path("cert.pem"), certificate_.certificate());
    rpc::WriteFile(path("key.pem"), certificate_.key());
    std::string hash;
    for (const uint8_t byte : auth::Sha256(kToken)) {
      char digits[3];
      std::snprintf(digits, sizeof digits, "%02x", byte);
      hash += digits;
    }
    rpc::WriteFile(path("auth.json"),
                   R"({"principals": [{"name": "bench", "project": "default", "role": "WRITER", )"
                   R"("token_sha256": [")" +
                       hash + R"("]}]})");
    std::filesystem::permissions(path("auth.json"), std::filesystem::perms::owner_read);
  }
  std::string path(const std::string& file) const { return directory_.path() + "/" + file; }
  std::shared_ptr<grpc::ChannelCredentials> credentials() const {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = certificate_.certificate();
    return grpc::SslCredentials(options);
  }
  static constexpr char kToken[] = "bpt_0123456789012345678901234567890123456789012345678";

 private:
  const TemporaryDirectory directory_;
  const rpc::TestCertificate certificate_;
};

Variant MakeVariant(const std::string& name, const Secrets& secrets, bool token, bool tls,
                    bool counts = true) {
  ServerKind kind;
  kind.counts_calls = counts;
  if (token) kind.auth_file = secrets.path("auth.json");
  if (tls) {
    kind.certificate = secrets.path("cert.pem");
    kind.key = secrets.path("key.pem");
  }
  auto server = std::make_unique<BenchServer>(kind);
  auto connection = std::make_unique<Connection>(
      server->tcp(), tls ? secrets.credentials() : grpc::InsecureChannelCredentials());
  return {name, std::move(server), std::move(connection), token};
}

void Identify(const Variant& variant, grpc::ClientContext* context) {
  if (variant.sends_token) {
    context->AddMetadata("authorization", std::string("Bearer ") + Secrets::kToken);
  }
}

v1::StepRequest StepOf(int rows) {
  v1::StepRequest request;
  request.set_model("models/xor");
  *request.mutable_batch() = BatchOf(rows, 2, 2);
  return request;
}

double StepMicroseconds(const Variant& variant, const v1::StepRequest& request) {
  grpc::ClientContext context;
  Identify(variant, &context);
  v1::StepResponse response;
  return 1e6 * Seconds([&] {
           Check(variant.connection->training->Step(&context, request, &response), "Step");
         });
}

// Calls each server in turn, so that all of them meet the same disturbances.
void Latencies(const Options& options, int rows, std::vector<Variant>* variants) {
  const v1::StepRequest request = StepOf(rows);
  const int calls = options.quick ? 20 : 10'000;
  for (Variant& variant : *variants) variant.microseconds.clear();
  for (int i = 0; i < calls; ++i) {
    for (Variant& variant : *variants) {
      const double took = StepMicroseconds(variant, request);
      if (i >= calls / 10) variant.microseconds.push_back(took);
    }
  }
  const Variant& plain = variants->front();
  for (const auto& [label, q] : {std::pair{"_p50", 0.5}, std::pair{"_p99", 0.99}}) {
    for (const Variant& variant : *variants) {
      if (&variant == &plain) continue;
      const std::string row = "cost_" + variant.name + "_" + std::to_string(rows) + label;
      const bool counts = variant.name == "counting";  // then the plain one is ours
      const double ours = Quantile((counts ? plain : variant).microseconds, q);
      const double peer = Quantile((counts ? variant : plain).microseconds, q);
      Print(row, "", ours, "us");
      Print(row, counts ? kUncounted : kPlain, peer, "us");
    }
  }
}

double Rate(const Options& options, const Variant& variant) {
  return CallRate<v1::StepResponse>(
      options.quick ? 0.02 : 0.5, 16, std::vector<v1::StepRequest>{StepOf(1)},
      [&](auto... args) { variant.connection->training->async()->Step(args...); });
}

}  // namespace

void CostRows(const Options& options) {
  if (!Wanted(options, "cost_token") && !Wanted(options, "cost_tls") &&
      !Wanted(options, "cost_counting")) {
    return;
  }
  const Secrets secrets;
  std::vector<Variant> variants;
  variants.push_back(MakeVariant("plain", secrets, false, false));
  variants.push_back(MakeVariant("token", secrets, true, false));
  variants.push_back(MakeVariant("tls", secrets, false, true));
  variants.push_back(MakeVariant("tls_token", secrets, true, true));
  variants.push_back(MakeVariant("counting", secrets, false, false, /*counts=*/false));
  for (const Variant& variant : variants) {
    v1::CreateModelRequest request;
    request.set_model_id("xor");
    *request.mutable_spec() = SpecOf(2, {8, 2});
    v1::CreateModelResponse response;
    grpc::ClientContext context;
    Identify(variant, &context);
    Check(variant.connection->training->CreateModel(&context, request, &response), "CreateModel");
  }
  for (const int rows : {1, 200}) Latencies(options, rows, &variants);
  std::vector<double> counted, uncounted;
  for (int i = 0; i < (options.quick ? 1 : 15); ++i) {
    counted.push_back(Rate(options, variants.front()));
    uncounted.push_back(Rate(options, variants.back()));
  }
  Print("cost_counting_1_rate", "", Quantile(counted, 0.5), "/s");
  Print("cost_counting_1_rate", kUncounted, Quantile(uncounted, 0.5), "/s");
}

}  // namespace backprop::bench
