// The conformance runner of the C++ client. tests/conformance/README.md describes the protocol.
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/conformance/cpp/operations.h"

namespace backprop::conformance {
namespace {

// Reads requests and writes replies, one JSON object a line.
class Runner {
 public:
  void Run() {
    for (std::string line; std::getline(std::cin, line);) {
      const Json message = Json::parse(line);
      const int64_t id = message.at("id").get<int64_t>();
      auto request = std::make_shared<Request>();
      request->args = message.value("args", Json::object());
      request->emit = [this, id](const Json& event) { Write({{"id", id}, {"event", event}}); };
      const auto operation = message.at("op").get<std::string>();
      if (operation == "cancel") {
        running_.at(request->args.at("target").get<int64_t>())->cancellation.Cancel();
        Write({{"id", id}, {"result", Json::object()}});
      } else if (message.value("async", false)) {
        running_[id] = request;
        threads_.emplace_back([this, id, operation, request] { Answer(id, operation, *request); });
      } else {
        Answer(id, operation, *request);
      }
    }
    for (const auto& [id, request] : running_) request->cancellation.Cancel();
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void Answer(int64_t id, const std::string& operation, const Request& request) {
    Json reply = {{"id", id}};
    try {
      const auto result = Execute(operation, &clients_, request);
      if (result.has_value()) {
        reply["result"] = *result;
      } else {
        reply["unsupported"] = true;
      }
    } catch (const Failure& failure) {
      reply["error"] = ErrorOf(failure.status);
    } catch (const std::exception& error) {
      reply["error"] = {{"code", "INTERNAL"}, {"message", error.what()}};
    }
    Write(reply);
  }

  void Write(const Json& message) {
    const std::lock_guard lock(mu_);
    std::cout << message.dump() << std::endl;
  }

  Clients clients_;
  std::mutex mu_;  // one line at a time
  std::map<int64_t, std::shared_ptr<Request>> running_;
  std::vector<std::thread> threads_;
};

}  // namespace
}  // namespace backprop::conformance

int main() {
  backprop::conformance::Runner().Run();
  return 0;
}
