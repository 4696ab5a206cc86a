#include "server/engine/loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/engine/cases.h"

namespace backprop::engine {
namespace {

template <class T>
class LossTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(LossTest, Types);

LossSpec LossSpecOf(Loss kind) {
  LossSpec loss;
  loss.kind = kind;
  return loss;
}

template <class T>
void ExpectFinite(const std::vector<T>& values) {
  for (T v : values) EXPECT_TRUE(std::isfinite(v)) << v;
}

TYPED_TEST(LossTest, ExtremeLogitsStayFinite) {
  using T = TypeParam;
  const std::vector<T> z = {T(1e4), T(-1e4), T(-1e4), T(1e4), T(0), T(1e4)};
  const std::vector<int32_t> classes = {1, 1, 0};
  const std::vector<T> targets = {T(0), T(1), T(0), T(1), T(0.5), T(0.5)};
  for (Loss loss : kLosses) {
    std::vector<T> dz(6, T(NAN));
    const auto result =
        ComputeLoss<T>(LossSpecOf(loss), {3, 2, z.data(), nullptr, targets.data()}, dz.data());
    EXPECT_TRUE(std::isfinite(result.sum));
    ExpectFinite(dz);
    if (!Classifies(loss)) continue;
    std::vector<T> p(6, T(NAN));
    Probabilities<T>(loss, z.data(), p.data(), 3, 2);
    ExpectFinite(p);
  }
  std::vector<T> dz(6, T(NAN));
  const auto result = ComputeLoss<T>(LossSpecOf(Loss::kSoftmaxCrossEntropy),
                                     {3, 2, z.data(), classes.data(), nullptr}, dz.data());
  EXPECT_NEAR(result.sum, 2e4 + 0 + 1e4, 1);
  EXPECT_EQ(result.correct, 1);
  ExpectFinite(dz);
}

TYPED_TEST(LossTest, KnownValues) {
  using T = TypeParam;
  const std::vector<T> z = {0, 0};
  const std::vector<int32_t> classes = {1};
  std::vector<T> dz(2);
  auto result = ComputeLoss<T>(LossSpecOf(Loss::kSoftmaxCrossEntropy),
                               {1, 2, z.data(), classes.data(), nullptr}, dz.data());
  EXPECT_NEAR(result.sum, std::log(2.0), 1e-7);
  EXPECT_NEAR(static_cast<double>(dz[0]), 0.5, 1e-7);
  EXPECT_NEAR(static_cast<double>(dz[1]), -0.5, 1e-7);
  const std::vector<T> y = {1, 3};
  result = ComputeLoss<T>(LossSpecOf(Loss::kMeanSquaredError), {1, 2, z.data(), nullptr, y.data()},
                          dz.data());
  EXPECT_NEAR(result.sum, 5, 1e-6);
  EXPECT_NEAR(static_cast<double>(dz[1]), -3, 1e-6);
}

TYPED_TEST(LossTest, BinaryClassesEqualTargets) {
  using T = TypeParam;
  const std::vector<T> z = {T(0.3), T(-1.5), T(2)};
  const std::vector<int32_t> classes = {1, 1, 0};
  const std::vector<T> targets = {1, 1, 0};
  std::vector<T> a(3), b(3);
  const auto from_classes = ComputeLoss<T>(LossSpecOf(Loss::kBinaryCrossEntropy),
                                           {3, 1, z.data(), classes.data(), nullptr}, a.data());
  const auto from_targets = ComputeLoss<T>(LossSpecOf(Loss::kBinaryCrossEntropy),
                                           {3, 1, z.data(), nullptr, targets.data()}, b.data());
  EXPECT_EQ(from_classes.sum, from_targets.sum);
  EXPECT_EQ(from_classes.correct, 1);
  EXPECT_EQ(a, b);
}

TYPED_TEST(LossTest, NotANumberIsNotHidden) {
  using T = TypeParam;
  const std::vector<T> z = {0, T(NAN)};
  const std::vector<T> y = {1, 0};
  for (Loss loss : kLosses) {
    std::vector<T> dz(2);
    EXPECT_TRUE(std::isnan(
        ComputeLoss<T>(LossSpecOf(loss), {1, 2, z.data(), nullptr, y.data()}, dz.data()).sum))
        << static_cast<int>(loss);
  }
}

TYPED_TEST(LossTest, PredictedClassIsTheFirstLargest) {
  using T = TypeParam;
  const std::vector<T> z = {1, 3, 3, 2};
  EXPECT_EQ(PredictedClass<T>(Loss::kSoftmaxCrossEntropy, z.data(), 4), 1);
  const T half[] = {0}, above[] = {T(0.1)};
  EXPECT_EQ(PredictedClass<T>(Loss::kBinaryCrossEntropy, half, 1), 0);
  EXPECT_EQ(PredictedClass<T>(Loss::kBinaryCrossEntropy, above, 1), 1);
}

// By hand, from the formulas of PyTorch's documentation.
TYPED_TEST(LossTest, SmoothingAndWeightsAsPyTorchDefinesThem) {
  using T = TypeParam;
  const std::vector<T> z = {1, 2, 0, 1};
  const std::vector<int32_t> classes = {0, 1};
  LossSpec loss;
  loss.label_smoothing = 0.2;
  loss.class_weights = {2, 0.5};
  const double p00 = -std::log(1 / (1 + std::exp(1.0))), p01 = p00 - 1;  // −log p of row 0
  const auto result =
      ComputeLoss<T>(loss, {2, 2, z.data(), classes.data(), nullptr}, static_cast<T*>(nullptr));
  // Row 1 has the same logits but for a shift.
  const double row0 = 2 * 0.9 * p00 + 0.5 * 0.1 * p01;
  const double row1 = 2 * 0.1 * p00 + 0.5 * 0.9 * p01;
  EXPECT_NEAR(result.sum, row0 + row1, 1e-6);
  EXPECT_NEAR(result.weight, 2 + 0.5, 1e-12);
  EXPECT_EQ(result.rows, 2);
  EXPECT_EQ(result.correct, 1);
}

TYPED_TEST(LossTest, MeanAbsoluteErrorAndHuber) {
  using T = TypeParam;
  const std::vector<T> z = {0, 0, 0}, y = {T(0.5), -3, 0};
  std::vector<T> dz(3);
  auto result = ComputeLoss<T>(LossSpecOf(Loss::kMeanAbsoluteError),
                               {1, 3, z.data(), nullptr, y.data()}, dz.data());
  EXPECT_NEAR(result.mean(), 3.5 / 3, 1e-6);
  EXPECT_NEAR(static_cast<double>(dz[0]), -1.0 / 3, 1e-7);
  EXPECT_NEAR(static_cast<double>(dz[1]), 1.0 / 3, 1e-7);
  EXPECT_EQ(dz[2], 0) << "the derivative at 0 is 0";
  result = ComputeLoss<T>(LossSpecOf(Loss::kHuber), {1, 3, z.data(), nullptr, y.data()}, dz.data());
  EXPECT_NEAR(result.mean(), (0.125 + 2.5) / 3, 1e-6);
  EXPECT_NEAR(static_cast<double>(dz[0]), -0.5 / 3, 1e-7);
  EXPECT_NEAR(static_cast<double>(dz[1]), 1.0 / 3, 1e-7);
}

// A sample of weight 0 is ignored, even if its loss overflows; a batch of such samples alone has
// loss and gradient 0.
TYPED_TEST(LossTest, ASampleOfWeightZeroIsIgnored) {
  using T = TypeParam;
  const std::vector<T> z = {1, 2, std::numeric_limits<T>::max(), std::numeric_limits<T>::lowest()};
  const std::vector<T> y = {T(0.5), T(0.5), 0, 1};
  const std::vector<T> weights = {2, 0};
  for (Loss kind : kLosses) {
    SCOPED_TRACE(static_cast<int>(kind));
    std::vector<T> dz(4, T(NAN)), alone(2, T(NAN));
    const LossSpec loss = LossSpecOf(kind);
    const auto both =
        ComputeLoss<T>(loss, {2, 2, z.data(), nullptr, y.data(), weights.data()}, dz.data());
    const auto one = ComputeLoss<T>(loss, {1, 2, z.data(), nullptr, y.data()}, alone.data());
    EXPECT_EQ(both.mean(), one.mean());
    EXPECT_EQ(dz, (std::vector<T>{alone[0], alone[1], 0, 0}));
    const std::vector<T> none = {0, 0};
    const auto nothing =
        ComputeLoss<T>(loss, {2, 2, z.data(), nullptr, y.data(), none.data()}, dz.data());
    EXPECT_EQ(nothing.mean(), 0);
    EXPECT_EQ(dz, (std::vector<T>{0, 0, 0, 0}));
  }
}

}  // namespace
}  // namespace backprop::engine
