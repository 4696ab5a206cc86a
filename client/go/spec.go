package backprop

import (
	"fmt"
	"strings"

	pb "backprop.dev/go/backprop/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Ptr returns a pointer to a value, for the fields whose zero value is not the default.
func Ptr[T any](value T) *T { return &value }

// Activation is the function that a layer applies to its outputs.
type Activation int32

// The activations. The zero value is ReLU for a hidden layer, Identity for the last layer.
const (
	Identity  = Activation(pb.Activation_ACTIVATION_IDENTITY)
	ReLU      = Activation(pb.Activation_ACTIVATION_RELU)
	Tanh      = Activation(pb.Activation_ACTIVATION_TANH)
	Sigmoid   = Activation(pb.Activation_ACTIVATION_SIGMOID)
	LeakyReLU = Activation(pb.Activation_ACTIVATION_LEAKY_RELU)
	ELU       = Activation(pb.Activation_ACTIVATION_ELU)
	GELU      = Activation(pb.Activation_ACTIVATION_GELU)
	SiLU      = Activation(pb.Activation_ACTIVATION_SILU)
	Softplus  = Activation(pb.Activation_ACTIVATION_SOFTPLUS)
)

// String returns the name in lower case: "leaky_relu".
func (a Activation) String() string { return enumName(pb.Activation(a), "ACTIVATION_") }

// Initializer is the distribution of initial weights or biases.
type Initializer int32

// The initializers. The zero value is PyTorchLinear for weights; for biases it is PyTorchLinear if
// the weights use it, otherwise Zeros.
const (
	HeNormal      = Initializer(pb.Initializer_INITIALIZER_HE_NORMAL)
	HeUniform     = Initializer(pb.Initializer_INITIALIZER_HE_UNIFORM)
	XavierNormal  = Initializer(pb.Initializer_INITIALIZER_XAVIER_NORMAL)
	XavierUniform = Initializer(pb.Initializer_INITIALIZER_XAVIER_UNIFORM)
	Zeros         = Initializer(pb.Initializer_INITIALIZER_ZEROS)
	Constant      = Initializer(pb.Initializer_INITIALIZER_CONSTANT)
	PyTorchLinear = Initializer(pb.Initializer_INITIALIZER_PYTORCH_LINEAR)
)

// String returns the name in lower case: "he_normal".
func (i Initializer) String() string { return enumName(pb.Initializer(i), "INITIALIZER_") }

// A Layer is a dense layer. In this and the following types a zero number means the default of the
// contract; a pointer is used where 0 is a meaningful value that is not the default.
type Layer struct {
	Units         int // at least 1
	Activation    Activation
	Initializer   Initializer
	NegativeSlope *float64 // LeakyReLU; default 0.01
	Alpha         float64  // ELU; default 1
	Dropout       float64  // in [0, 1); 0 in the last layer
	InitialValue  *float64 // with Constant
	// BiasInitializer is Zeros, Constant or PyTorchLinear.
	BiasInitializer Initializer
	InitialBias     *float64 // with a BiasInitializer of Constant
}

// Loss is what training minimises: one of the five types below.
type Loss interface{ loss() *pb.Loss }

type (
	// SoftmaxCrossEntropy is for one class of k ≥ 2. The default.
	SoftmaxCrossEntropy struct {
		LabelSmoothing float64
		ClassWeights   []float64 // empty, or one per class
	}
	// BinaryCrossEntropy is for independent binary outputs.
	BinaryCrossEntropy struct {
		PosWeight    []float64 // empty, or one per output
		ClassWeights []float64 // empty, or one per output
	}
	// MeanSquaredError is for regression.
	MeanSquaredError struct{}
	// MeanAbsoluteError is for regression with outliers.
	MeanAbsoluteError struct{}
	// Huber is for regression with outliers, and smooth where the error is small.
	Huber struct {
		Delta float64 // default 1
	}
)

// Optimizer changes the parameters: one of the five types below. The default is SGD.
type Optimizer interface{ optimizer() *pb.Optimizer }

type (
	// SGD is gradient descent, with or without momentum.
	SGD struct {
		LearningRate float64 // default 0.001
		Momentum     float64
		Nesterov     bool
		WeightDecay  float64
	}
	// Adam is by Kingma and Ba (2015).
	Adam struct {
		LearningRate float64  // default 0.001
		Beta1, Beta2 *float64 // default 0.9, 0.999
		Epsilon      float64  // default 1e-8
		WeightDecay  float64
	}
	// AdamW is Adam with decoupled weight decay.
	AdamW struct {
		LearningRate float64  // default 0.001
		Beta1, Beta2 *float64 // default 0.9, 0.999
		Epsilon      float64  // default 1e-8
		WeightDecay  *float64 // default 0.01
	}
	// RMSProp divides by a mean of squared gradients.
	RMSProp struct {
		LearningRate float64  // default 0.01
		Alpha        *float64 // default 0.99
		Epsilon      float64  // default 1e-8
		Momentum     float64
		Centered     bool
		WeightDecay  float64
	}
	// Adagrad is by Duchi et al. (2011).
	Adagrad struct {
		LearningRate            float64 // default 0.01
		LRDecay                 float64
		Epsilon                 float64 // default 1e-10
		InitialAccumulatorValue float64
		WeightDecay             float64
	}
)

// Schedule is the learning rate as a function of the optimiser's steps: one of the four types
// below, or nil for a constant rate.
type Schedule interface{ schedule(*pb.Schedule) }

type (
	// StepSchedule multiplies the rate by Gamma every StepSize steps.
	StepSchedule struct {
		StepSize int64
		Gamma    float64 // default 0.1
	}
	// ExponentialSchedule multiplies the rate by Gamma every step.
	ExponentialSchedule struct{ Gamma float64 }
	// CosineSchedule follows half a period of a cosine, down to MinLearningRate.
	CosineSchedule struct {
		TotalSteps      int64
		MinLearningRate float64
	}
	// ReduceOnPlateauSchedule reduces the rate when the loss stops improving.
	ReduceOnPlateauSchedule struct {
		Factor          float64  // default 0.1
		Patience        *int64   // epochs; default 10
		Threshold       *float64 // default 1e-4
		Cooldown        int64    // epochs
		MinLearningRate float64
	}
)

// InputStandardization is (x − mean) / std for each feature. Both empty: fitted to the rows of
// the first run.
type InputStandardization struct{ Mean, Std []float64 }

// ModelSpec is the definition of a model. Names, defaults and ranges are those of the message
// ModelSpec in proto/backprop/v1/model.proto. As JSON it has the form that every language and curl
// use: [ModelSpec.UnmarshalJSON].
type ModelSpec struct {
	InputSize int // number of features of a row
	Layers    []Layer
	Loss      Loss      // nil: SoftmaxCrossEntropy
	Optimizer Optimizer // nil: SGD
	Seed      uint64
	DataType  DataType // zero: Float32

	ClassNames           []string // empty, or one per class
	FeatureNames         []string // empty, or one per feature
	InputStandardization *InputStandardization

	// These belong to the optimiser.
	Schedule          Schedule
	WarmupSteps       int64
	WarmupStartFactor float64 // default 1/3
	L1                float64
	ClipNorm          float64 // at most one of ClipNorm and ClipValue
	ClipValue         float64
}

// UnmarshalJSON reads the JSON of the contract, for example
//
//	{"inputSize": 2, "layers": [{"units": 8}, {"units": 2}],
//	 "optimizer": {"adam": {"learningRate": 0.01}}}
//
// Unknown fields and unknown names of enum values are errors.
func (s *ModelSpec) UnmarshalJSON(text []byte) error {
	var m pb.ModelSpec
	if err := protojson.Unmarshal(text, &m); err != nil {
		return failed(codes.InvalidArgument, "", "spec: %s", err)
	}
	*s = specOf(&m)
	return nil
}

// MarshalJSON writes the JSON of the contract.
func (s ModelSpec) MarshalJSON() ([]byte, error) {
	var wrong violations
	m := s.proto(&wrong)
	if err := wrong.err(); err != nil {
		return nil, err
	}
	return protojson.Marshal(m)
}

// enumName returns the name of an enum value without its prefix, in lower case.
func enumName(value protoreflect.Enum, prefix string) string {
	known := value.Descriptor().Values().ByNumber(value.Number())
	if known == nil {
		return fmt.Sprintf("unknown(%d)", value.Number())
	}
	return strings.ToLower(strings.TrimPrefix(string(known.Name()), prefix))
}

// checkEnum adds a violation for a number that has no name: protobuf would send it.
func checkEnum(wrong *violations, field string, value protoreflect.Enum) {
	if value.Descriptor().Values().ByNumber(value.Number()) == nil {
		wrong.add(field, "there is no value %d of %s", value.Number(), value.Descriptor().Name())
	}
}
