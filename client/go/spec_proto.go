package backprop

import (
	"fmt"
	"math"

	pb "backprop.dev/go/backprop/v1"
)

// set returns nil, the default of the contract, for 0.
func set(value float64) *float64 {
	if value == 0 {
		return nil
	}
	return &value
}

func setInt[T int32 | int64](value T) *T {
	if value == 0 {
		return nil
	}
	return &value
}

// int32Of checks that a number fits; the server checks its range.
func int32Of(wrong *violations, field string, value int) int32 {
	if value < math.MinInt32 || value > math.MaxInt32 {
		wrong.add(field, "must be at most %d, got %d", math.MaxInt32, value)
		return 0
	}
	return int32(value)
}

func (l Layer) proto(wrong *violations, field string) *pb.Layer {
	checkEnum(wrong, field+".activation", pb.Activation(l.Activation))
	checkEnum(wrong, field+".initializer", pb.Initializer(l.Initializer))
	checkEnum(wrong, field+".bias_initializer", pb.Initializer(l.BiasInitializer))
	return &pb.Layer{Units: int32Of(wrong, field+".units", l.Units), Activation: pb.Activation(l.Activation),
		Initializer: pb.Initializer(l.Initializer), NegativeSlope: l.NegativeSlope, Alpha: set(l.Alpha),
		Dropout: set(l.Dropout), InitialValue: l.InitialValue,
		BiasInitializer: pb.Initializer(l.BiasInitializer), InitialBias: l.InitialBias}
}

func layerOf(m *pb.Layer) Layer {
	return Layer{Units: int(m.GetUnits()), Activation: Activation(m.GetActivation()),
		Initializer: Initializer(m.GetInitializer()), NegativeSlope: m.NegativeSlope, Alpha: m.GetAlpha(),
		Dropout: m.GetDropout(), InitialValue: m.InitialValue,
		BiasInitializer: Initializer(m.GetBiasInitializer()), InitialBias: m.InitialBias}
}

func (l SoftmaxCrossEntropy) loss() *pb.Loss {
	return &pb.Loss{Kind: &pb.Loss_SoftmaxCrossEntropy{SoftmaxCrossEntropy: &pb.SoftmaxCrossEntropy{
		LabelSmoothing: set(l.LabelSmoothing), ClassWeights: l.ClassWeights}}}
}

func (l BinaryCrossEntropy) loss() *pb.Loss {
	return &pb.Loss{Kind: &pb.Loss_BinaryCrossEntropy{BinaryCrossEntropy: &pb.BinaryCrossEntropy{
		PosWeight: l.PosWeight, ClassWeights: l.ClassWeights}}}
}

func (MeanSquaredError) loss() *pb.Loss {
	return &pb.Loss{Kind: &pb.Loss_MeanSquaredError{MeanSquaredError: &pb.MeanSquaredError{}}}
}

func (MeanAbsoluteError) loss() *pb.Loss {
	return &pb.Loss{Kind: &pb.Loss_MeanAbsoluteError{MeanAbsoluteError: &pb.MeanAbsoluteError{}}}
}

func (l Huber) loss() *pb.Loss {
	return &pb.Loss{Kind: &pb.Loss_Huber{Huber: &pb.Huber{Delta: set(l.Delta)}}}
}

func lossOf(m *pb.Loss) Loss {
	switch m := m.GetKind().(type) {
	case *pb.Loss_SoftmaxCrossEntropy:
		return SoftmaxCrossEntropy{m.SoftmaxCrossEntropy.GetLabelSmoothing(), m.SoftmaxCrossEntropy.GetClassWeights()}
	case *pb.Loss_BinaryCrossEntropy:
		return BinaryCrossEntropy{m.BinaryCrossEntropy.GetPosWeight(), m.BinaryCrossEntropy.GetClassWeights()}
	case *pb.Loss_MeanSquaredError:
		return MeanSquaredError{}
	case *pb.Loss_MeanAbsoluteError:
		return MeanAbsoluteError{}
	case *pb.Loss_Huber:
		return Huber{m.Huber.GetDelta()}
	}
	return nil
}

func (o SGD) optimizer() *pb.Optimizer {
	return &pb.Optimizer{Kind: &pb.Optimizer_Sgd{Sgd: &pb.Sgd{LearningRate: set(o.LearningRate),
		Momentum: set(o.Momentum), Nesterov: o.Nesterov, WeightDecay: set(o.WeightDecay)}}}
}

func (o Adam) optimizer() *pb.Optimizer {
	return &pb.Optimizer{Kind: &pb.Optimizer_Adam{Adam: &pb.Adam{LearningRate: set(o.LearningRate),
		Beta1: o.Beta1, Beta2: o.Beta2, Epsilon: set(o.Epsilon), WeightDecay: set(o.WeightDecay)}}}
}

func (o AdamW) optimizer() *pb.Optimizer {
	return &pb.Optimizer{Kind: &pb.Optimizer_Adamw{Adamw: &pb.AdamW{LearningRate: set(o.LearningRate),
		Beta1: o.Beta1, Beta2: o.Beta2, Epsilon: set(o.Epsilon), WeightDecay: o.WeightDecay}}}
}

func (o RMSProp) optimizer() *pb.Optimizer {
	return &pb.Optimizer{Kind: &pb.Optimizer_Rmsprop{Rmsprop: &pb.RmsProp{LearningRate: set(o.LearningRate),
		Alpha: o.Alpha, Epsilon: set(o.Epsilon), Momentum: set(o.Momentum), Centered: o.Centered,
		WeightDecay: set(o.WeightDecay)}}}
}

func (o Adagrad) optimizer() *pb.Optimizer {
	return &pb.Optimizer{Kind: &pb.Optimizer_Adagrad{Adagrad: &pb.Adagrad{LearningRate: set(o.LearningRate),
		LrDecay: set(o.LRDecay), Epsilon: set(o.Epsilon),
		InitialAccumulatorValue: set(o.InitialAccumulatorValue), WeightDecay: set(o.WeightDecay)}}}
}

func optimizerOf(m *pb.Optimizer) Optimizer {
	switch m := m.GetKind().(type) {
	case *pb.Optimizer_Sgd:
		return SGD{m.Sgd.GetLearningRate(), m.Sgd.GetMomentum(), m.Sgd.GetNesterov(), m.Sgd.GetWeightDecay()}
	case *pb.Optimizer_Adam:
		return Adam{m.Adam.GetLearningRate(), m.Adam.Beta1, m.Adam.Beta2, m.Adam.GetEpsilon(), m.Adam.GetWeightDecay()}
	case *pb.Optimizer_Adamw:
		return AdamW{m.Adamw.GetLearningRate(), m.Adamw.Beta1, m.Adamw.Beta2, m.Adamw.GetEpsilon(), m.Adamw.WeightDecay}
	case *pb.Optimizer_Rmsprop:
		return RMSProp{m.Rmsprop.GetLearningRate(), m.Rmsprop.Alpha, m.Rmsprop.GetEpsilon(),
			m.Rmsprop.GetMomentum(), m.Rmsprop.GetCentered(), m.Rmsprop.GetWeightDecay()}
	case *pb.Optimizer_Adagrad:
		return Adagrad{m.Adagrad.GetLearningRate(), m.Adagrad.GetLrDecay(), m.Adagrad.GetEpsilon(),
			m.Adagrad.GetInitialAccumulatorValue(), m.Adagrad.GetWeightDecay()}
	}
	return nil
}

func (s StepSchedule) schedule(m *pb.Schedule) {
	m.Kind = &pb.Schedule_Step{Step: &pb.StepSchedule{StepSize: s.StepSize, Gamma: set(s.Gamma)}}
}

func (s ExponentialSchedule) schedule(m *pb.Schedule) {
	m.Kind = &pb.Schedule_Exponential{Exponential: &pb.ExponentialSchedule{Gamma: s.Gamma}}
}

func (s CosineSchedule) schedule(m *pb.Schedule) {
	m.Kind = &pb.Schedule_Cosine{Cosine: &pb.CosineSchedule{TotalSteps: s.TotalSteps,
		MinLearningRate: set(s.MinLearningRate)}}
}

func (s ReduceOnPlateauSchedule) schedule(m *pb.Schedule) {
	m.Kind = &pb.Schedule_ReduceOnPlateau{ReduceOnPlateau: &pb.ReduceOnPlateauSchedule{Factor: set(s.Factor),
		Patience: s.Patience, Threshold: s.Threshold, Cooldown: setInt(s.Cooldown),
		MinLearningRate: set(s.MinLearningRate)}}
}

func scheduleOf(m *pb.Schedule) Schedule {
	switch m := m.GetKind().(type) {
	case *pb.Schedule_Step:
		return StepSchedule{m.Step.GetStepSize(), m.Step.GetGamma()}
	case *pb.Schedule_Exponential:
		return ExponentialSchedule{m.Exponential.GetGamma()}
	case *pb.Schedule_Cosine:
		return CosineSchedule{m.Cosine.GetTotalSteps(), m.Cosine.GetMinLearningRate()}
	case *pb.Schedule_ReduceOnPlateau:
		r := m.ReduceOnPlateau
		return ReduceOnPlateauSchedule{r.GetFactor(), r.Patience, r.Threshold, r.GetCooldown(), r.GetMinLearningRate()}
	}
	return nil
}

// optimizerProto returns nil, the default, if nothing about the optimiser is set.
func (s ModelSpec) optimizerProto(wrong *violations) *pb.Optimizer {
	var m *pb.Optimizer
	schedule := s.Schedule != nil || s.WarmupSteps != 0 || s.WarmupStartFactor != 0
	switch {
	case s.Optimizer != nil:
		m = s.Optimizer.optimizer()
	case schedule || s.L1 != 0 || s.ClipNorm != 0 || s.ClipValue != 0:
		m = SGD{}.optimizer()
	default:
		return nil
	}
	if schedule {
		m.Schedule = &pb.Schedule{WarmupSteps: s.WarmupSteps, WarmupStartFactor: set(s.WarmupStartFactor)}
		if s.Schedule != nil {
			s.Schedule.schedule(m.Schedule)
		}
	}
	m.L1 = set(s.L1)
	switch {
	case s.ClipNorm != 0 && s.ClipValue != 0:
		wrong.add("spec.optimizer.clip_norm", "must not be set with clip_value")
	case s.ClipNorm != 0:
		m.Clipping = &pb.Optimizer_ClipNorm{ClipNorm: s.ClipNorm}
	case s.ClipValue != 0:
		m.Clipping = &pb.Optimizer_ClipValue{ClipValue: s.ClipValue}
	}
	return m
}

func (s *InputStandardization) proto() *pb.InputStandardization {
	if s == nil {
		return nil
	}
	return &pb.InputStandardization{Mean: s.Mean, Std: s.Std}
}

func standardizationOf(m *pb.InputStandardization) *InputStandardization {
	if m == nil {
		return nil
	}
	return &InputStandardization{m.GetMean(), m.GetStd()}
}

func (s ModelSpec) proto(wrong *violations) *pb.ModelSpec {
	checkEnum(wrong, "spec.data_type", pb.DataType(s.DataType))
	m := &pb.ModelSpec{InputSize: int32Of(wrong, "spec.input_size", s.InputSize), Seed: s.Seed,
		DataType: pb.DataType(s.DataType), ClassNames: s.ClassNames, FeatureNames: s.FeatureNames,
		InputStandardization: s.InputStandardization.proto(), Optimizer: s.optimizerProto(wrong)}
	for i, layer := range s.Layers {
		m.Layers = append(m.Layers, layer.proto(wrong, fmt.Sprintf("spec.layers[%d]", i)))
	}
	if s.Loss != nil {
		m.Loss = s.Loss.loss()
	}
	return m
}

func specOf(m *pb.ModelSpec) ModelSpec {
	optimizer := m.GetOptimizer()
	s := ModelSpec{InputSize: int(m.GetInputSize()), Loss: lossOf(m.GetLoss()), Optimizer: optimizerOf(optimizer),
		Seed: m.GetSeed(), DataType: DataType(m.GetDataType()), ClassNames: m.GetClassNames(),
		FeatureNames: m.GetFeatureNames(), InputStandardization: standardizationOf(m.GetInputStandardization()),
		Schedule: scheduleOf(optimizer.GetSchedule()), WarmupSteps: optimizer.GetSchedule().GetWarmupSteps(),
		WarmupStartFactor: optimizer.GetSchedule().GetWarmupStartFactor(), L1: optimizer.GetL1(),
		ClipNorm: optimizer.GetClipNorm(), ClipValue: optimizer.GetClipValue()}
	for _, layer := range m.GetLayers() {
		s.Layers = append(s.Layers, layerOf(layer))
	}
	return s
}
