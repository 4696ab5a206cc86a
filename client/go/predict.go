package backprop

import (
	"context"
	"strings"

	pb "backprop.dev/go/backprop/v1"
)

// Output is an output of [Client.Predict].
type Output int32

// The outputs. Without any: probabilities, and classes if the model has them; for regression,
// logits.
const (
	Logits        = Output(pb.PredictOutput_PREDICT_OUTPUT_LOGITS)        // of the last layer
	Probabilities = Output(pb.PredictOutput_PREDICT_OUTPUT_PROBABILITIES) // not for regression
	Classes       = Output(pb.PredictOutput_PREDICT_OUTPUT_CLASSES)       // not for regression
)

// A Prediction has one entry for each row of the inputs.
type Prediction struct {
	Logits        Tensor // (n, k)
	Probabilities Tensor // (n, k)
	Classes       []int32
	ClassNames    []string
	Step          int64 // of the parameters that were used
}

// Predict computes outputs for the rows of inputs. It does not wait for an active run.
func (c *Client) Predict(ctx context.Context, model string, inputs Tensor, outputs ...Output) (*Prediction, error) {
	var wrong violations
	request := &pb.PredictRequest{Model: modelName(&wrong, "model", model), Inputs: inputs.proto()}
	inputs.check(&wrong, "inputs")
	for _, output := range outputs {
		checkEnum(&wrong, "outputs", pb.PredictOutput(output))
		request.Outputs = append(request.Outputs, pb.PredictOutput(output))
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	m, err := unary(ctx, c, c.rpc.Predict, request)
	if err != nil {
		return nil, err
	}
	return &Prediction{tensorOf(m.GetLogits()), tensorOf(m.GetProbabilities()), m.GetClasses(), m.GetClassNames(),
		m.GetStep()}, nil
}

// EvaluateOptions are the options of [Client.Evaluate]. nil: all defaults.
type EvaluateOptions struct {
	TopK        int32 // k of top-k accuracy; default 2
	SummaryOnly bool  // only Metrics, which takes no memory for every row
}

// An Evaluation has the metrics of a model on some rows, with scikit-learn's definitions.
type Evaluation struct {
	Metrics        Metrics
	Step           int64
	Classification *ClassificationMetrics // of a classifier
	Regression     *RegressionMetrics
}

// ClassificationMetrics are those of a classifier.
type ClassificationMetrics struct {
	Accuracy        float64
	TopKAccuracy    *float64 // nil with two classes
	TopK            int32
	ConfusionMatrix []float64 // classes × classes, [label][prediction], row-major
	Classes         []ClassMetrics
	Macro, Weighted AverageMetrics
	ROCAUC          *float64
	LogLoss         *float64
}

// ClassMetrics are those of one class.
type ClassMetrics struct {
	Index                          int32
	Name                           string // empty without ClassNames
	Precision, Recall, F1, Support float64
	ROCAUC                         *float64
}

// AverageMetrics are means over classes.
type AverageMetrics struct{ Precision, Recall, F1 float64 }

// RegressionMetrics are those of a regression model.
type RegressionMetrics struct {
	MeanSquaredError, RootMeanSquaredError, MeanAbsoluteError, R2 float64
}

// Evaluate computes loss and metrics on rows. The model is unchanged.
func (c *Client) Evaluate(ctx context.Context, model string, rows Rows, options *EvaluateOptions) (*Evaluation, error) {
	var wrong violations
	request := &pb.EvaluateRequest{Model: modelName(&wrong, "model", model)}
	if options != nil {
		request.TopK, request.SummaryOnly = setInt(options.TopK), options.SummaryOnly
	}
	if rows == nil {
		wrong.add("data", "is required")
	} else if batch, name := rows.rowsOf(); batch != nil {
		request.Data = batch.proto(&wrong, "data")
	} else {
		request.Dataset = checkedName(&wrong, "dataset", "datasets/", name)
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	m, err := unary(ctx, c, c.rpc.Evaluate, request)
	if err != nil {
		return nil, err
	}
	return &Evaluation{someMetrics(m.GetMetrics()), m.GetStep(), classificationOf(m.GetClassification()),
		regressionOf(m.GetRegression())}, nil
}

func averageOf(m *pb.AverageMetrics) AverageMetrics {
	return AverageMetrics{m.GetPrecision(), m.GetRecall(), m.GetF1()}
}

func classificationOf(m *pb.ClassificationMetrics) *ClassificationMetrics {
	if m == nil {
		return nil
	}
	out := &ClassificationMetrics{Accuracy: m.GetAccuracy(), TopKAccuracy: m.TopKAccuracy, TopK: m.GetTopK(),
		ConfusionMatrix: m.GetConfusionMatrix(), Macro: averageOf(m.GetMacro()), Weighted: averageOf(m.GetWeighted()),
		ROCAUC: m.RocAuc, LogLoss: m.LogLoss}
	for _, k := range m.GetClasses() {
		out.Classes = append(out.Classes, ClassMetrics{k.GetClassIndex(), k.GetClassName(), k.GetPrecision(),
			k.GetRecall(), k.GetF1(), k.GetSupport(), k.RocAuc})
	}
	return out
}

func regressionOf(m *pb.RegressionMetrics) *RegressionMetrics {
	if m == nil {
		return nil
	}
	return &RegressionMetrics{m.GetMeanSquaredError(), m.GetRootMeanSquaredError(), m.GetMeanAbsoluteError(), m.GetR2()}
}

// GradCheckOptions are the options of [Client.GradCheck]. nil, and 0: the defaults.
type GradCheckOptions struct {
	Tolerance           float64 // default 1e-4
	KernelTolerance     float64 // default 1e-4 for float32, 1e-9 for float64
	MaxEntriesPerTensor int32   // default 256
	Seed                uint64
}

// Verdict is the result of a gradient check.
type Verdict int32

// The verdicts.
const (
	Passed       = Verdict(pb.GradCheckVerdict_GRAD_CHECK_VERDICT_PASSED)
	Failed       = Verdict(pb.GradCheckVerdict_GRAD_CHECK_VERDICT_FAILED)
	Inconclusive = Verdict(pb.GradCheckVerdict_GRAD_CHECK_VERDICT_INCONCLUSIVE)
)

// String returns the name of the contract without its prefix: "PASSED".
func (v Verdict) String() string {
	return strings.ToUpper(enumName(pb.GradCheckVerdict(v), "GRAD_CHECK_VERDICT_"))
}

// A GradCheck is the check of the gradients of a model on one batch.
type GradCheck struct {
	Verdict                    Verdict
	Explanation                string // if not Passed: why, and what to change
	Tensors                    []TensorGradCheck
	MaxRelativeError, Loss     float64
	Sampled                    bool // some entries were not checked
	Tolerance, KernelTolerance float64
	Step                       int64
}

// A TensorGradCheck is the check of one tensor.
type TensorGradCheck struct {
	Name                                         string
	Shape, WorstIndex                            []int32
	Checked, SetAside, NotSampled, Unresolved    int64
	MaxAbsoluteError, MaxRelativeError           float64
	WorstAnalytic, WorstNumeric, WorstErrorBound float64
	KernelMaxRelativeError, KernelMaxBoundRatio  float64
	Verdict                                      Verdict
	Explanation                                  string
}

// GradCheck compares the gradients of a model with finite differences. The model is unchanged.
func (c *Client) GradCheck(ctx context.Context, model string, batch Batch,
	options *GradCheckOptions) (*GradCheck, error) {
	var wrong violations
	request := &pb.GradCheckRequest{Model: modelName(&wrong, "model", model), Batch: batch.proto(&wrong, "batch")}
	if o := options; o != nil {
		request.Config = &pb.GradCheckConfig{Tolerance: set(o.Tolerance), KernelTolerance: set(o.KernelTolerance),
			MaxEntriesPerTensor: setInt(o.MaxEntriesPerTensor), Seed: o.Seed}
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	response, err := unary(ctx, c, c.rpc.GradCheck, request)
	if err != nil {
		return nil, err
	}
	m := response.GetResult()
	out := &GradCheck{Verdict: Verdict(m.GetVerdict()), Explanation: m.GetExplanation(),
		MaxRelativeError: m.GetMaxRelativeError(), Loss: m.GetLoss(), Sampled: m.GetSampled(),
		Tolerance: m.GetTolerance(), KernelTolerance: m.GetKernelTolerance(), Step: response.GetStep()}
	for _, t := range m.GetTensors() {
		out.Tensors = append(out.Tensors, TensorGradCheck{Name: t.GetName(), Shape: t.GetShape(),
			WorstIndex: t.GetWorstIndex(), Checked: t.GetChecked(), SetAside: t.GetSetAside(),
			NotSampled: t.GetNotSampled(), Unresolved: t.GetUnresolved(), MaxAbsoluteError: t.GetMaxAbsoluteError(),
			MaxRelativeError: t.GetMaxRelativeError(), WorstAnalytic: t.GetWorstAnalytic(),
			WorstNumeric: t.GetWorstNumeric(), WorstErrorBound: t.GetWorstErrorBound(),
			KernelMaxRelativeError: t.GetKernelMaxRelativeError(), KernelMaxBoundRatio: t.GetKernelMaxBoundRatio(),
			Verdict: Verdict(t.GetVerdict()), Explanation: t.GetExplanation()})
	}
	return out, nil
}
