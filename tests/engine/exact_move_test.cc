#include "server/engine/exact_move.h"

#include <gtest/gtest.h>

#include <cmath>

#include "server/engine/loss.h"
#include "tests/engine/cases.h"

namespace backprop::engine {
namespace {

double Relative(Quad got, Quad expected) {
  const Quad difference = got > expected ? got - expected : expected - got;
  const Quad size = expected > 0 ? expected : -expected;
  return size == 0 ? (difference == 0 ? 0 : INFINITY) : static_cast<double>(difference / size);
}

LayerSpec LayerOf(Activation activation) {
  LayerSpec layer;
  layer.activation = activation;
  layer.alpha = 1.5;
  layer.negative_slope = 0.2;
  return layer;
}

// f(z + Δ) − f(z), compared with the computed difference where that loses few digits.
TEST(ExactMoveTest, ChangesOfActivationsEqualTheDifference) {
  for (const Activation activation : kActivations) {
    const LayerSpec layer = LayerOf(activation);
    for (const double z : {-30.0, -3.0, -0.7, 0.3, 1.0, 2.5, 30.0}) {
      for (const double delta : {-0.6, -0.02, 0.001, 0.04, 0.9}) {
        SCOPED_TRACE(testing::Message()
                     << static_cast<int>(activation) << " " << z << " " << delta);
        const UnitPoint point = PointOf(layer, z);
        const Quad a = ExactActivation(layer, Quad(z));
        const Quad moved = ExactActivation(layer, Quad(z) + Quad(delta));
        // The difference of two numbers of 113 bits is known to 2^-113 of them.
        const Quad larger = std::max(a < 0 ? -a : a, moved < 0 ? -moved : moved);
        const Quad got = ActivationMove(layer, point, delta).quad();
        const Quad expected = moved - a;
        const Quad error = got > expected ? got - expected : expected - got;
        const Quad size = expected < 0 ? -expected : expected;
        EXPECT_LE(static_cast<double>(error),
                  static_cast<double>(size) * 0x1p-98 + static_cast<double>(larger) * 0x1p-110);
      }
    }
  }
}

// For tiny Δ the change is f′(z)·Δ, to all digits.
TEST(ExactMoveTest, TheSmallestChangesLoseNoDigits) {
  for (const Activation activation : kActivations) {
    const LayerSpec layer = LayerOf(activation);
    for (const double z : {-25.0, -2.0, 0.5, 17.0}) {
      SCOPED_TRACE(testing::Message() << static_cast<int>(activation) << " " << z);
      const double delta = 0x1p-130;
      const Quad got = ActivationMove(layer, PointOf(layer, z), delta).quad();
      EXPECT_LT(Relative(got, ExactSlope(layer, Quad(z)) * Quad(delta)), 1e-29);
    }
  }
}

TEST(ExactMoveTest, ChangesOfLossesEqualTheDifferenceAndTheSlope) {
  const double targets[] = {0.25, 0.75, 0};
  const double yes_no[] = {1, 0, 1};
  const DoubleDouble z[] = {1.5, -0.5, 0.125};
  for (const Loss kind : kLosses) {
    for (const bool indexed : {false, true}) {
      if (indexed && kind != Loss::kSoftmaxCrossEntropy) continue;
      for (const double scale : {1e-3, 0x1p-100}) {
        SCOPED_TRACE(testing::Message() << static_cast<int>(kind) << indexed << scale);
        LossSpec loss;
        loss.kind = kind;
        if (Classifies(kind)) loss.class_weights = {1, 0.5, 2};
        const double* wanted = kind == Loss::kBinaryCrossEntropy ? yes_no : targets;
        const RowTargets row = {indexed ? nullptr : wanted, 2};
        const LossPoint point = LossPointOf(loss, row, z, 3);
        const DoubleDouble delta[] = {scale, -2 * scale, 0.5 * scale};
        DoubleDouble moved[3];
        Quad linear = 0;
        for (int j = 0; j < 3; ++j) {
          moved[j] = z[j] + delta[j];
          linear += Quad(point.slope[static_cast<size_t>(j)]) * delta[j].quad();
        }
        const Quad got = LossMove(loss, point, delta).quad();
        if (scale < 1e-10) {
          EXPECT_LT(Relative(got, linear), 1e-14);  // slopes are rounded to double
        } else {
          EXPECT_LT(Relative(got, LossPointOf(loss, row, moved, 3).loss - point.loss), 1e-26);
        }
      }
    }
  }
}

// If one class is the target and its probability is almost 1, 1 − p keeps its digits.
TEST(ExactMoveTest, AProbabilityNearOneKeepsItsDigits) {
  LossSpec loss;
  const DoubleDouble z[] = {0, 60};
  const LossPoint point = LossPointOf(loss, {nullptr, 1}, z, 2);
  const Quad rest = Exp(Quad(-60));
  EXPECT_LT(Relative(Quad(point.slope[1]), -rest / (1 + rest)), 1e-15);
  const DoubleDouble delta[] = {0, 0x1p-100};
  EXPECT_LT(Relative(LossMove(loss, point, delta).quad(), -rest / (1 + rest) * delta[1].quad()),
            1e-28);
}

}  // namespace
}  // namespace backprop::engine
