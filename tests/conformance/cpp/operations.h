// The operations of the conformance protocol, each by a call of the client's public API.
#ifndef BACKPROP_TESTS_CONFORMANCE_CPP_OPERATIONS_H_
#define BACKPROP_TESTS_CONFORMANCE_CPP_OPERATIONS_H_

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "tests/conformance/cpp/values.h"

namespace backprop::conformance {

// A request that is being executed.
struct Request {
  Json args;
  std::function<void(const Json&)> emit;  // writes an event
  Cancellation cancellation;

  std::string Model() const { return Text(args, "model"); }
  // Options of a call with the request's timeout, request_id and cancellation.
  CallOptions Call() const;
};

// The connected clients by name. Thread-safe.
class Clients {
 public:
  void Put(const std::string& name, std::shared_ptr<Client> client);
  // The client of a request.
  std::shared_ptr<Client> Of(const Request& request);

 private:
  std::mutex mu_;
  std::map<std::string, std::shared_ptr<Client>> clients_;
};

// Returns the result of an operation. Throws Failure if it fails. Nothing: there is no such
// operation.
std::optional<Json> Execute(const std::string& operation, Clients* clients, const Request& request);

}  // namespace backprop::conformance

#endif  // BACKPROP_TESTS_CONFORMANCE_CPP_OPERATIONS_H_
