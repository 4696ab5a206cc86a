// The real server in a separate process, with an additional echo service.
#ifndef BACKPROP_TESTS_BENCH_BENCH_SERVER_H_
#define BACKPROP_TESTS_BENCH_BENCH_SERVER_H_

#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "backprop/v1/training_service.grpc.pb.h"
#include "echo.grpc.pb.h"

namespace backprop::bench {

// The argument that makes the benchmark's program run as this server.
inline constexpr char kServe[] = "--serve";

// How a server differs from one with the defaults of backpropd. Empty: not used.
struct ServerKind {
  std::string data_dir = {};  // models are in memory only without it
  int64_t memory_limit = 0;   // bytes; 0: none
  bool counts_calls = true;   // for metrics
  std::string auth_file = {};
  std::string certificate = {};  // a file, with which TCP uses TLS
  std::string key = {};          // of the certificate
};

// Serves until standard input ends, with the arguments of a process that BenchServer started.
// Prints its addresses, TCP first.
int Serve(char** arguments);
inline constexpr int kServeArguments = 6;

// Starts this program again as a server, and stops it in the destructor. Exits on failure.
class BenchServer {
 public:
  explicit BenchServer(const ServerKind& kind = {});
  ~BenchServer();
  BenchServer(const BenchServer&) = delete;
  BenchServer& operator=(const BenchServer&) = delete;

  const std::string& tcp() const { return tcp_; }
  const std::string& unix_socket() const { return unix_; }
  int64_t ResidentBytes() const;
  int64_t WrittenBytes() const;  // bytes written to disk since the start
  // Kills the server instead of stopping it gracefully.
  void Kill();

 private:
  pid_t pid_ = 0;
  int input_ = -1;
  std::string tcp_;
  std::string unix_;
};

// One connection with both services.
struct Connection {
  explicit Connection(const std::string& address,
                      const std::shared_ptr<grpc::ChannelCredentials>& credentials =
                          grpc::InsecureChannelCredentials());
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::TrainingService::Stub> training;
  std::unique_ptr<Echo::Stub> echo;
};

// Prints the error and exits unless `status` is OK.
void Check(const grpc::Status& status, const char* what);

// A classifier inputs -> units…, with ReLU between layers and SGD with a small learning rate.
v1::ModelSpec SpecOf(int inputs, std::initializer_list<int> units);
void CreateModel(const Connection& connection, const std::string& id, const v1::ModelSpec& spec);

// Rows of synthetic inputs and labels, as raw tensors.
v1::Batch BatchOf(int rows, int inputs, int classes);

}  // namespace backprop::bench

#endif  // BACKPROP_TESTS_BENCH_BENCH_SERVER_H_
