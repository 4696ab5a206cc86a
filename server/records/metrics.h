// Loss and accuracy of a model on some rows.
#ifndef BACKPROP_SERVER_RECORDS_METRICS_H_
#define BACKPROP_SERVER_RECORDS_METRICS_H_

#include <cstdint>
#include <optional>

#include "server/engine/loss.h"
#include "server/engine/network.h"

namespace backprop::records {

struct Metrics {
  double loss = 0;
  std::optional<double> accuracy;  // set if the model classifies
  int64_t rows = 0;
};

inline Metrics MetricsOf(const engine::Network& network, const engine::LossResult& loss,
                         int64_t rows) {
  Metrics metrics;
  metrics.rows = rows;
  metrics.loss = loss.mean();
  if (engine::Classifies(network.spec().loss.kind)) metrics.accuracy = loss.accuracy();
  return metrics;
}

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_METRICS_H_
