// The original exercise of the project, through the server: 200 points, 3,000 full-batch
// iterations.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "backprop/client.h"
#include "backprop/datasets.h"
#include "tests/rpc/test_server.h"

namespace backprop {
namespace {

constexpr uint64_t kDefaultSeed = 67;  // the demo's

class XorTest : public testing::Test {
 protected:
  Result<TrainingSummary> Train(uint64_t seed, double* first_loss, bool print = false,
                                Initializer initializer = Initializer::kDefault) {
    ModelSpec spec;
    spec.input_size = 2;
    spec.layers = {{8}, {2}};
    for (Layer& layer : spec.layers) layer.initializer = initializer;
    spec.optimizer = Sgd{.learning_rate = 0.1};
    spec.seed = seed;
    const std::string id = "xor-" + std::to_string(models_++);
    const auto model = client.CreateModel(spec, {.model_id = id});
    if (!model.ok()) return model.status();
    return client.Train(id, *MakeDataset("xor", {.seed = seed}),
                        {.iterations = 3000, .report_every = 300}, [&](const TrainingEvent& event) {
                          const auto* progress = std::get_if<Progress>(&event.body);
                          if (progress == nullptr) return true;
                          if (progress->iteration == 1) *first_loss = progress->metrics.loss;
                          if (print) {
                            std::printf("%6lld %.6f %.4f\n",
                                        static_cast<long long>(progress->iteration),
                                        progress->metrics.loss, *progress->metrics.accuracy);
                          }
                          return true;
                        });
  }

  // Final accuracies of 100 seeds, in ascending order.
  std::vector<double> Accuracies(Initializer initializer) {
    std::vector<double> accuracies;
    for (uint64_t seed = 0; seed < 100; ++seed) {
      double first_loss = 0;
      const auto summary = Train(seed, &first_loss, false, initializer);
      EXPECT_TRUE(summary.ok()) << summary.status().ToString();
      EXPECT_LT(summary->metrics->loss, first_loss * 0.6) << "seed " << seed;
      accuracies.push_back(*summary->metrics->accuracy);
    }
    std::sort(accuracies.begin(), accuracies.end());
    std::printf("accuracy over 100 seeds: minimum %.3f, fifth %.3f, median %.3f, maximum %.3f\n",
                accuracies[0], accuracies[5], accuracies[50], accuracies[99]);
    return accuracies;
  }

  int models_ = 0;
  rpc::TestServer server;
  Client client{server.address};
};

TEST_F(XorTest, TheDefaultSeedReachesTheAccuracyOfTheDemo) {
  double first_loss = 0;
  const auto summary = Train(kDefaultSeed, &first_loss, true);
  ASSERT_TRUE(summary.ok()) << summary.status().ToString();
  EXPECT_EQ(summary->stop_reason, StopReason::kCompleted);
  EXPECT_NEAR(first_loss, 0.689, 0.001);
  EXPECT_NEAR(summary->metrics->loss, 0.081, 0.002);
  EXPECT_GE(*summary->metrics->accuracy, 0.97);
}

// With PyTorch's initialisation a few of 100 networks of eight units end in a worse minimum.
TEST_F(XorTest, WithDefaultsTheTypicalSeedReachesNinetySevenPercent) {
  const auto accuracies = Accuracies(Initializer::kDefault);
  EXPECT_GE(accuracies[50], 0.97);
  EXPECT_GE(accuracies[5], 0.90);
  EXPECT_GE(accuracies[0], 0.75);
}

TEST_F(XorTest, WithHeNormalEverySeedReachesNinetyPercent) {
  const auto accuracies = Accuracies(Initializer::kHeNormal);
  EXPECT_GE(accuracies[50], 0.96);
  EXPECT_GE(accuracies[0], 0.90);
}

}  // namespace
}  // namespace backprop
