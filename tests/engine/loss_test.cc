#include "server/engine/loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace backprop::engine {
namespace {

template <class T>
class LossTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(LossTest, Types);

template <class T>
void ExpectFinite(const std::vector<T>& values) {
  for (T v : values) EXPECT_TRUE(std::isfinite(v)) << v;
}

TYPED_TEST(LossTest, ExtremeLogitsStayFinite) {
  using T = TypeParam;
  const std::vector<T> z = {T(1e4), T(-1e4), T(-1e4), T(1e4), T(0), T(1e4)};
  const std::vector<int32_t> classes = {1, 1, 0};
  const std::vector<T> targets = {T(0), T(1), T(0), T(1), T(0.5), T(0.5)};
  for (Loss loss :
       {Loss::kSoftmaxCrossEntropy, Loss::kBinaryCrossEntropy, Loss::kMeanSquaredError}) {
    std::vector<T> dz(6, T(NAN));
    const auto result = ComputeLoss<T>(loss, {3, 2, z.data(), nullptr, targets.data()}, dz.data());
    EXPECT_TRUE(std::isfinite(result.sum));
    ExpectFinite(dz);
    if (loss == Loss::kMeanSquaredError) continue;
    std::vector<T> p(6, T(NAN));
    Probabilities<T>(loss, z.data(), p.data(), 3, 2);
    ExpectFinite(p);
  }
  std::vector<T> dz(6, T(NAN));
  const auto result = ComputeLoss<T>(Loss::kSoftmaxCrossEntropy,
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
  auto result = ComputeLoss<T>(Loss::kSoftmaxCrossEntropy,
                               {1, 2, z.data(), classes.data(), nullptr}, dz.data());
  EXPECT_NEAR(result.sum, std::log(2.0), 1e-7);
  EXPECT_NEAR(static_cast<double>(dz[0]), 0.5, 1e-7);
  EXPECT_NEAR(static_cast<double>(dz[1]), -0.5, 1e-7);
  const std::vector<T> y = {1, 3};
  result = ComputeLoss<T>(Loss::kMeanSquaredError, {1, 2, z.data(), nullptr, y.data()}, dz.data());
  EXPECT_NEAR(result.sum, 5, 1e-6);
  EXPECT_NEAR(static_cast<double>(dz[1]), -3, 1e-6);
}

TYPED_TEST(LossTest, BinaryClassesEqualTargets) {
  using T = TypeParam;
  const std::vector<T> z = {T(0.3), T(-1.5), T(2)};
  const std::vector<int32_t> classes = {1, 1, 0};
  const std::vector<T> targets = {1, 1, 0};
  std::vector<T> a(3), b(3);
  const auto from_classes = ComputeLoss<T>(Loss::kBinaryCrossEntropy,
                                           {3, 1, z.data(), classes.data(), nullptr}, a.data());
  const auto from_targets = ComputeLoss<T>(Loss::kBinaryCrossEntropy,
                                           {3, 1, z.data(), nullptr, targets.data()}, b.data());
  EXPECT_EQ(from_classes.sum, from_targets.sum);
  EXPECT_EQ(from_classes.correct, 1);
  EXPECT_EQ(a, b);
}

TYPED_TEST(LossTest, NotANumberIsNotHidden) {
  using T = TypeParam;
  const std::vector<T> z = {0, T(NAN)};
  const std::vector<T> y = {1, 0};
  for (Loss loss :
       {Loss::kSoftmaxCrossEntropy, Loss::kBinaryCrossEntropy, Loss::kMeanSquaredError}) {
    std::vector<T> dz(2);
    EXPECT_TRUE(
        std::isnan(ComputeLoss<T>(loss, {1, 2, z.data(), nullptr, y.data()}, dz.data()).sum))
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

}  // namespace
}  // namespace backprop::engine
