// The published random numbers, implemented from docs/numerics.md alone, as another program that
// reproduces a run would. Shares nothing with the engine.
#ifndef BACKPROP_TESTS_ENGINE_REFERENCE_RANDOM_H_
#define BACKPROP_TESTS_ENGINE_REFERENCE_RANDOM_H_

#include <cstdint>
#include <vector>

namespace backprop::reference {

// Words w0…w3 of the block of (seed, purpose, index) at a position.
std::vector<uint32_t> Block(uint64_t seed, uint32_t purpose, uint64_t index, uint64_t position);

// The order of a shuffle of n rows.
std::vector<int> Shuffle(uint64_t seed, uint32_t purpose, uint64_t index, int n);

// The validation rows of a split, in order. `classes` holds the class of each row; all 0 if the
// split is not stratified.
std::vector<int> ValidationSplit(uint64_t seed, uint64_t index, double share,
                                 const std::vector<int>& classes);

// The uniform number in [0, 1) of (seed, purpose, index) at a position.
double Uniform(uint64_t seed, uint32_t purpose, uint64_t index, uint64_t position);

// Element e of the dropout mask of a layer at a step: 0 or 1/(1 − rate).
double DropoutFactor(uint64_t seed, uint64_t step, uint64_t layer, double rate, uint64_t e);

}  // namespace backprop::reference

#endif  // BACKPROP_TESTS_ENGINE_REFERENCE_RANDOM_H_
