#include "server/engine/exact_move.h"

#include <algorithm>
#include <cmath>

namespace backprop::engine {
namespace {

Quad Abs(Quad x) { return x < 0 ? -x : x; }
Quad Sigmoid(Quad z) {
  if (z >= 0) return 1 / (1 + Exp(-z));
  const Quad e = Exp(z);
  return e / (1 + e);
}
Quad NormalCdf(Quad z) { return Erfc(-z / Sqrt(Quad(2))) / 2; }
Quad NormalPdf(Quad z) {
  const Quad pi = 4 * Atan(Quad(1));
  return Exp(-z * z / 2) / Sqrt(2 * pi);
}

// Φ(z + Δ) − Φ(z) = φ(z)·∫₀^Δ e^(−z·t − t²/2) dt. The integrand's series Σ c_n·tⁿ has
// (n + 1)·c_{n+1} = −z·c_n − c_{n−1}.
DoubleDouble NormalCdfMove(const UnitPoint& point, DoubleDouble delta) {
  const DoubleDouble z = point.z;
  if (!(std::abs(delta.high) * (1 + std::abs(z.high)) < 0.25)) {
    return DoubleDouble(NormalCdf((z + delta).quad()) - NormalCdf(z.quad()));
  }
  DoubleDouble before = 0, c = 1, power = delta, sum = delta;
  int small = 0;
  for (int n = 0; small < 2 && n < 200; ++n) {
    const DoubleDouble next = (-(z * c) - before) / DoubleDouble(n + 1);
    before = c;
    c = next;
    power = power * delta;
    const DoubleDouble term = c * power / DoubleDouble(n + 2);
    sum = sum + term;
    small = std::abs(term.high) <= 0x1p-106 * std::abs(sum.high) ? small + 1 : 0;
  }
  return point.second * sum;
}

// σ(z + Δ) − σ(z) = σ(z)·σ(−z)·m / (1 − σ(−z)·m),  m = 1 − e^−Δ.
DoubleDouble SigmoidMove(const UnitPoint& point, DoubleDouble delta) {
  const DoubleDouble m = -Expm1(-delta);
  return point.first * point.second * m / (DoubleDouble(1) - point.second * m);
}

}  // namespace

double TargetOf(const LossSpec& loss, const RowTargets& wanted, size_t j) {
  if (wanted.targets != nullptr) return wanted.targets[j];
  if (loss.kind == Loss::kBinaryCrossEntropy) return static_cast<double>(wanted.label);
  return j == static_cast<size_t>(wanted.label) ? 1.0 : 0.0;
}

double WeightAt(const std::vector<double>& weights, size_t j) {
  return weights.empty() ? 1 : weights[j];
}

Quad ExactActivation(const LayerSpec& layer, Quad z) {
  switch (layer.activation) {
    case Activation::kIdentity:
      return z;
    case Activation::kRelu:
      return z > 0 ? z : Quad(0);
    case Activation::kTanh:
      return Tanh(z);
    case Activation::kSigmoid:
      return Sigmoid(z);
    case Activation::kLeakyRelu:
      return z > 0 ? z : layer.negative_slope * z;
    case Activation::kElu:
      return z > 0 ? z : layer.alpha * Expm1(z);
    case Activation::kGelu:
      return z * NormalCdf(z);
    case Activation::kSilu:
      return z * Sigmoid(z);
    case Activation::kSoftplus:
      return (z > 0 ? z : Quad(0)) + Log1p(Exp(-Abs(z)));
  }
  return z;
}

Quad ExactSlope(const LayerSpec& layer, Quad z) {
  switch (layer.activation) {
    case Activation::kIdentity:
      return 1;
    case Activation::kRelu:
      return z > 0 ? 1 : 0;
    case Activation::kTanh: {
      const Quad e = Exp(-2 * Abs(z));
      return 4 * e / ((1 + e) * (1 + e));
    }
    case Activation::kSigmoid:
      return Sigmoid(z) * Sigmoid(-z);
    case Activation::kLeakyRelu:
      return z > 0 ? Quad(1) : Quad(layer.negative_slope);
    case Activation::kElu:
      return z > 0 ? Quad(1) : layer.alpha * Exp(z);
    case Activation::kGelu:
      return NormalCdf(z) + z * NormalPdf(z);
    case Activation::kSilu:
      return Sigmoid(z) * (1 + z * Sigmoid(-z));
    case Activation::kSoftplus:
      return Sigmoid(z);
  }
  return 1;
}

UnitPoint PointOf(const LayerSpec& layer, DoubleDouble z) {
  UnitPoint point;
  point.z = z;
  switch (layer.activation) {
    case Activation::kIdentity:
      point.a = z;
      return point;
    case Activation::kRelu:
      if (IsPositive(z)) point.a = z;
      return point;
    case Activation::kLeakyRelu:
      point.a = IsPositive(z) ? z : DoubleDouble(layer.negative_slope) * z;
      return point;
    case Activation::kTanh:
    case Activation::kSoftplus:
      point.first = DoubleDouble(ExactSlope(layer, z.quad()));
      break;
    case Activation::kElu:
      if (!IsPositive(z)) point.first = DoubleDouble(layer.alpha * Exp(z.quad()));
      break;
    case Activation::kSigmoid:
    case Activation::kSilu:
      point.first = DoubleDouble(Sigmoid(z.quad()));
      point.second = DoubleDouble(Sigmoid(-z.quad()));
      break;
    case Activation::kGelu:
      point.first = DoubleDouble(NormalCdf(z.quad()));
      point.second = DoubleDouble(NormalPdf(z.quad()));
      break;
  }
  point.a = DoubleDouble(ExactActivation(layer, z.quad()));
  return point;
}

DoubleDouble ActivationMove(const LayerSpec& layer, const UnitPoint& point, DoubleDouble delta) {
  const DoubleDouble z = point.z;
  const auto crosses = [&] { return IsPositive(z) != IsPositive(z + delta); };
  switch (layer.activation) {
    case Activation::kIdentity:
      return delta;
    case Activation::kRelu:
      if (!crosses()) return IsPositive(z) ? delta : DoubleDouble();
      break;
    case Activation::kLeakyRelu:
      if (!crosses()) {
        return IsPositive(z) ? delta : DoubleDouble(layer.negative_slope) * delta;
      }
      break;
    case Activation::kElu:
      // alpha·e^z·(e^Δ − 1)
      if (!crosses()) return IsPositive(z) ? delta : point.first * Expm1(delta);
      break;
    case Activation::kTanh: {
      // (1 − a²)·τ / (1 + a·τ),  τ = tanh Δ = (e^2Δ − 1) / (e^2Δ + 1)
      const DoubleDouble e = Expm1(delta + delta);
      const DoubleDouble tau = e / (e + DoubleDouble(2));
      return point.first * tau / (DoubleDouble(1) + point.a * tau);
    }
    case Activation::kSigmoid:
      return SigmoidMove(point, delta);
    case Activation::kSilu:
      return delta * point.first + (z + delta) * SigmoidMove(point, delta);
    case Activation::kGelu:
      return delta * point.first + (z + delta) * NormalCdfMove(point, delta);
    case Activation::kSoftplus:
      // log((1 + e^(z + Δ)) / (1 + e^z))
      return Log1p(point.first * Expm1(delta));
  }
  return DoubleDouble(ExactActivation(layer, (z + delta).quad()) - point.a.quad());
}

namespace {

// The next three functions require that slope, magnitude and p of the point have k zeros, and that
// the rest of the point is empty; they fill it for the outputs z (k).

// −Σ_j q_j·log softmax(z)_j,  q_j = w_j·((1 − ε)·y_j + ε/k)
void FillSoftmaxCrossEntropy(const LossSpec& loss, const RowTargets& wanted, const DoubleDouble* z,
                             LossPoint* point) {
  const size_t size = point->p.size();
  const auto outputs = static_cast<double>(size);
  const Quad smoothing = loss.label_smoothing;
  Quad largest = z[0].quad(), Q = 0, sum_exp = 0;
  for (size_t j = 0; j < size; ++j) largest = std::max(largest, z[j].quad());
  std::vector<Quad> q, e;
  for (size_t j = 0; j < size; ++j) {
    q.push_back(WeightAt(loss.class_weights, j) *
                ((1 - smoothing) * Quad(TargetOf(loss, wanted, j)) + smoothing / outputs));
    e.push_back(Exp(z[j].quad() - largest));
    Q += q[j];
    sum_exp += e[j];
    point->q.emplace_back(q[j]);
  }
  const Quad log_sum = Log(sum_exp);
  for (size_t j = 0; j < size; ++j) {
    if (q[j] != 0) point->loss += q[j] * (log_sum - (z[j].quad() - largest));
    if (q[j] == Q && Q > 0) point->only = static_cast<int32_t>(j);
  }
  for (size_t j = 0; j < size; ++j) {
    const Quad p = e[j] / sum_exp;
    Quad slope = Q * p - q[j];
    Quad magnitude = Q * p + q[j];
    if (point->only == static_cast<int32_t>(j)) {
      // −Q·(1 − p), computed as the sum of the other terms to avoid cancellation.
      Quad others = 0;
      for (size_t i = 0; i < size; ++i) others += i == j ? Quad(0) : e[i];
      slope = -Q * others / sum_exp;
      magnitude = -slope;
    }
    point->p[j] = DoubleDouble(p);
    point->slope[j] = static_cast<double>(slope);
    point->magnitude[j] = static_cast<double>(magnitude);
  }
  point->Q = DoubleDouble(Q);
}

// mean_j w_j·(p_j·y_j·log(1 + e^−z_j) + (1 − y_j)·log(1 + e^z_j))
void FillBinaryCrossEntropy(const LossSpec& loss, const RowTargets& wanted, const DoubleDouble* z,
                            LossPoint* point) {
  const auto outputs = static_cast<double>(point->p.size());
  for (size_t j = 0; j < point->p.size(); ++j) {
    const Quad x = z[j].quad();
    const Quad w = WeightAt(loss.class_weights, j) / Quad(outputs);
    const Quad yes = w * WeightAt(loss.pos_weight, j) * TargetOf(loss, wanted, j);
    const Quad no = w * (Quad(1) - TargetOf(loss, wanted, j));
    const Quad tail = Log1p(Exp(-Abs(x)));
    point->loss += yes * (tail + (x < 0 ? -x : Quad(0))) + no * (tail + (x > 0 ? x : Quad(0)));
    point->q.emplace_back(no);
    point->yes.emplace_back(yes);
    point->p[j] = DoubleDouble(Sigmoid(x));
    point->other.emplace_back(Sigmoid(-x));
    point->slope[j] = static_cast<double>(no * Sigmoid(x) - yes * Sigmoid(-x));
    point->magnitude[j] = static_cast<double>(no * Sigmoid(x) + yes * Sigmoid(-x));
  }
}

// Mean squared error, mean absolute error or Huber loss: a mean over the outputs.
void FillRegression(const LossSpec& loss, const RowTargets& wanted, const DoubleDouble* z,
                    LossPoint* point) {
  const auto outputs = static_cast<double>(point->p.size());
  for (size_t j = 0; j < point->p.size(); ++j) {
    const Quad d = z[j].quad() - TargetOf(loss, wanted, j);
    const Quad distance = Abs(d);
    const Quad sign = d > 0 ? 1 : d < 0 ? -1 : 0;
    const Quad delta = loss.delta;
    Quad slope;
    if (loss.kind == Loss::kMeanSquaredError) {
      point->loss += d * d / outputs;
      slope = 2 * d / outputs;
    } else if (loss.kind == Loss::kMeanAbsoluteError) {
      point->loss += distance / outputs;
      slope = sign / outputs;
    } else if (distance <= delta) {
      point->loss += d * d / 2 / outputs;
      slope = d / outputs;
    } else {
      point->loss += delta * (distance - delta / 2) / outputs;
      slope = delta * sign / outputs;
    }
    point->p[j] = DoubleDouble(d);
    point->slope[j] = static_cast<double>(slope);
    point->magnitude[j] = std::abs(point->slope[j]);
  }
}

}  // namespace

LossPoint LossPointOf(const LossSpec& loss, const RowTargets& wanted, const DoubleDouble* z,
                      int64_t k) {
  const auto size = static_cast<size_t>(k);
  LossPoint point;
  point.slope.resize(size);
  point.magnitude.resize(size);
  point.p.resize(size);
  switch (loss.kind) {
    case Loss::kSoftmaxCrossEntropy:
      FillSoftmaxCrossEntropy(loss, wanted, z, &point);
      break;
    case Loss::kBinaryCrossEntropy:
      FillBinaryCrossEntropy(loss, wanted, z, &point);
      break;
    default:
      FillRegression(loss, wanted, z, &point);
  }
  return point;
}

namespace {

// The loss of one regression output, without the division by k; d = z − y.
DoubleDouble RegressionMove(const LossSpec& loss, DoubleDouble d, DoubleDouble move) {
  const auto size = [](DoubleDouble x) { return x.high < 0 ? -x : x; };
  const DoubleDouble moved = d + move;
  const bool same_side = (d.high > 0) == (moved.high > 0) && (d.high < 0) == (moved.high < 0);
  const DoubleDouble sign = d.high > 0 ? 1 : d.high < 0 ? -1 : 0;
  if (loss.kind == Loss::kMeanSquaredError) return move * (d + moved);
  if (loss.kind == Loss::kMeanAbsoluteError) {
    return same_side ? sign * move : size(moved) - size(d);
  }
  const DoubleDouble delta = loss.delta;
  const auto near = [&](DoubleDouble x) { return !IsPositive(size(x) - delta); };
  if (near(d) && near(moved)) return move * (d + moved) * DoubleDouble(0.5);
  if (!near(d) && !near(moved) && same_side) return delta * sign * move;
  const auto value = [&](DoubleDouble x) {
    return near(x) ? x * x * DoubleDouble(0.5) : delta * (size(x) - delta * DoubleDouble(0.5));
  };
  return value(moved) - value(d);
}

}  // namespace

DoubleDouble LossMove(const LossSpec& loss, const LossPoint& point, const DoubleDouble* delta) {
  const size_t k = point.p.size();
  DoubleDouble sum;
  if (loss.kind == Loss::kSoftmaxCrossEntropy) {
    // Q·log Σ_j p_j·e^(Δ_j − r) + Σ_j q_j·(r − Δ_j) for any r. r is Δ of the target class if there
    // is only one, otherwise 0.
    const DoubleDouble r = point.only < 0 ? DoubleDouble() : delta[point.only];
    for (size_t j = 0; j < k; ++j) sum = sum + point.p[j] * Expm1(delta[j] - r);
    DoubleDouble move = point.Q * Log1p(sum);
    for (size_t j = 0; point.only < 0 && j < k; ++j) move = move - point.q[j] * delta[j];
    return move;
  }
  if (loss.kind == Loss::kBinaryCrossEntropy) {
    for (size_t j = 0; j < k; ++j) {
      if (IsZero(delta[j])) continue;
      if (!IsZero(point.q[j])) {
        sum = sum + point.q[j] * Log1p(point.p[j] * Expm1(delta[j]));
      }
      if (!IsZero(point.yes[j])) {
        sum = sum + point.yes[j] * Log1p(point.other[j] * Expm1(-delta[j]));
      }
    }
    return sum;
  }
  for (size_t j = 0; j < k; ++j) {
    if (!IsZero(delta[j])) sum = sum + RegressionMove(loss, point.p[j], delta[j]);
  }
  return sum / DoubleDouble(static_cast<double>(k));
}

}  // namespace backprop::engine
