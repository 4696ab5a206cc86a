package backprop

import (
	"context"
	"iter"
	"math"
	"time"

	pb "backprop.dev/go/backprop/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Durability says when the server responds to a change, on a server with a data directory.
type Durability int32

// The zero value is DurabilitySync with a data directory, DurabilityNone without one.
const (
	DurabilitySync        = Durability(pb.Durability_DURABILITY_SYNC)         // the change is on disk
	DurabilityEverySecond = Durability(pb.Durability_DURABILITY_EVERY_SECOND) // on disk in a second
	DurabilityNone        = Durability(pb.Durability_DURABILITY_NONE)         // no guarantee
)

// String returns the name in lower case: "every_second".
func (d Durability) String() string { return enumName(pb.Durability(d), "DURABILITY_") }

// A Model is a network in the server, with its parameters and the state of its optimiser.
type Model struct {
	Name           string // models/{id}
	Spec           ModelSpec
	Step           int64 // optimiser steps so far
	ParameterCount int64
	Labels         map[string]string
	CreateTime     time.Time
	TTL            time.Duration // 0: never deleted
	ExpireTime     time.Time     // zero without a TTL
	ActiveRun      string        // models/{id}/runs/{n}, or empty
	Durability     Durability
}

func modelOf(m *pb.Model) *Model {
	model := &Model{Name: m.GetName(), Spec: specOf(m.GetSpec()), Step: m.GetStep(),
		ParameterCount: m.GetParameterCount(), Labels: m.GetLabels(), CreateTime: m.GetCreateTime().AsTime(),
		TTL: m.GetTtl().AsDuration(), ActiveRun: m.GetActiveRun(), Durability: Durability(m.GetDurability())}
	if m.GetExpireTime() != nil {
		model.ExpireTime = m.GetExpireTime().AsTime()
	}
	return model
}

// CreateModel creates a model. Options: [ModelID], [Labels], [TTL], a [Durability],
// [InitialParameters], [RequestID].
func (c *Client) CreateModel(ctx context.Context, spec ModelSpec, options ...CreateOption) (*Model, error) {
	var config createConfig
	for _, option := range options {
		option.create(&config)
	}
	var wrong violations
	checkEnum(&wrong, "durability", pb.Durability(config.durability))
	request := &pb.CreateModelRequest{ModelId: config.id, Spec: spec.proto(&wrong), Labels: config.labels,
		RequestId: config.changeConfig.id(), Durability: pb.Durability(config.durability),
		InitialParameters: config.parameters.proto(&wrong, "initial_parameters")}
	if config.ttl != 0 {
		request.Ttl = durationpb.New(config.ttl)
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	response, err := unary(ctx, c, c.rpc.CreateModel, request)
	if err != nil {
		return nil, err
	}
	return modelOf(response.GetModel()), nil
}

// GetModel returns a model as it is now.
func (c *Client) GetModel(ctx context.Context, model string) (*Model, error) {
	var wrong violations
	name := modelName(&wrong, "name", model)
	if err := wrong.err(); err != nil {
		return nil, err
	}
	response, err := unary(ctx, c, c.rpc.GetModel, &pb.GetModelRequest{Name: name})
	if err != nil {
		return nil, err
	}
	return modelOf(response.GetModel()), nil
}

// pages yields the elements of all pages. An error is the last element.
func pages[M, T any](page func(token string) ([]M, string, error), convert func(M) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for token := ""; ; {
			messages, next, err := page(token)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, m := range messages {
				if !yield(convert(m), nil) {
					return
				}
			}
			if token = next; token == "" {
				return
			}
		}
	}
}

// ListModels yields the models in order of name, and reads further pages as needed. An error is the
// last element. Options: [Labels], [PageSize].
func (c *Client) ListModels(ctx context.Context, options ...ListOption) iter.Seq2[*Model, error] {
	var config listConfig
	for _, option := range options {
		option.list(&config)
	}
	size := int32(min(max(config.pageSize, math.MinInt32), math.MaxInt32))
	return pages(func(token string) ([]*pb.Model, string, error) {
		response, err := unary(ctx, c, c.rpc.ListModels,
			&pb.ListModelsRequest{PageSize: size, PageToken: token, Labels: config.labels})
		return response.GetModels(), response.GetNextPageToken(), err
	}, modelOf)
}

// DeleteModel deletes a model and ends its active run. Options: [RequestID].
func (c *Client) DeleteModel(ctx context.Context, model string, options ...ChangeOption) error {
	var wrong violations
	request := &pb.DeleteModelRequest{Name: modelName(&wrong, "name", model), RequestId: changeID(options)}
	if err := wrong.err(); err != nil {
		return err
	}
	_, err := unary(ctx, c, c.rpc.DeleteModel, request)
	return err
}

func changeID(options []ChangeOption) string {
	var config changeConfig
	for _, option := range options {
		option.change(&config)
	}
	return config.id()
}

func stepOptions(options []StepOption) (config stepConfig) {
	for _, option := range options {
		option.step(&config)
	}
	return config
}

// Parameters are the weights, the state of the optimiser and the step counts of a model: a model
// that is set to them continues exactly from this state.
type Parameters struct {
	Tensors        []NamedTensor
	OptimizerState []NamedTensor // empty when set: that of a new model
	Step           *int64
	OptimizerStep  *int64
	// InputStandardization is that of a fitted model.
	InputStandardization *InputStandardization
	Plateau              *PlateauState
}

// PlateauState is the state of a [ReduceOnPlateauSchedule].
type PlateauState struct {
	LearningRate float64
	Best         float64 // infinite before the first epoch
	BadEpochs    int64
	Cooldown     int64
}

// Tensor returns the tensor of a name; the zero Tensor if there is none.
func (p *Parameters) Tensor(name string) Tensor {
	for _, t := range p.Tensors {
		if t.Name == name {
			return t.Tensor
		}
	}
	return Tensor{}
}

func (p *Parameters) proto(wrong *violations, field string) *pb.Parameters {
	if p == nil {
		return nil
	}
	m := &pb.Parameters{Tensors: namedProto(wrong, field+".tensors", p.Tensors),
		OptimizerState: namedProto(wrong, field+".optimizer_state", p.OptimizerState),
		Step:           p.Step, OptimizerStep: p.OptimizerStep, InputStandardization: p.InputStandardization.proto()}
	if s := p.Plateau; s != nil {
		m.Plateau = &pb.PlateauState{LearningRate: s.LearningRate, Best: s.Best, BadEpochs: s.BadEpochs, Cooldown: s.Cooldown}
	}
	return m
}

func parametersOf(m *pb.Parameters) *Parameters {
	p := &Parameters{Tensors: namedOf(m.GetTensors()), OptimizerState: namedOf(m.GetOptimizerState()),
		Step: m.Step, OptimizerStep: m.OptimizerStep,
		InputStandardization: standardizationOf(m.GetInputStandardization())}
	if s := m.GetPlateau(); s != nil {
		p.Plateau = &PlateauState{s.GetLearningRate(), s.GetBest(), s.GetBadEpochs(), s.GetCooldown()}
	}
	return p
}

// GetParameters returns the exact parameters and the state of the optimiser.
func (c *Client) GetParameters(ctx context.Context, model string) (*Parameters, error) {
	return c.parameters(ctx, model, false)
}

// GetWeights is [Client.GetParameters] without the state of the optimiser.
func (c *Client) GetWeights(ctx context.Context, model string) (*Parameters, error) {
	return c.parameters(ctx, model, true)
}

func (c *Client) parameters(ctx context.Context, model string, omitState bool) (*Parameters, error) {
	var wrong violations
	request := &pb.GetParametersRequest{Model: modelName(&wrong, "model", model),
		Encoding: pb.TensorEncoding_TENSOR_ENCODING_RAW, OmitOptimizerState: omitState}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	response, err := unary(ctx, c, c.rpc.GetParameters, request)
	if err != nil {
		return nil, err
	}
	return parametersOf(response.GetParameters()), nil
}

// SetParameters replaces the given tensors and, if given, the state of the optimiser and the step
// count. It returns the step count. Options: [ExpectedStep], [RequestID].
func (c *Client) SetParameters(ctx context.Context, model string, p *Parameters, options ...StepOption) (int64, error) {
	config := stepOptions(options)
	var wrong violations
	request := &pb.SetParametersRequest{Model: modelName(&wrong, "model", model), ExpectedStep: config.expected,
		Parameters: p.proto(&wrong, "parameters"), RequestId: config.id()}
	if err := wrong.err(); err != nil {
		return 0, err
	}
	response, err := unary(ctx, c, c.rpc.SetParameters, request)
	return response.GetStep(), err
}

// A Checkpoint is a stored state of a model.
type Checkpoint struct {
	Name       string // models/{id}/checkpoints/{id}
	Step       int64
	CreateTime time.Time
	SizeBytes  int64
	Run        string // the run that made it; empty: CreateCheckpoint
	Iteration  int64  // of that run
	Best       bool
	Metrics    *Metrics
	Validation *Metrics
}

func checkpointOf(m *pb.Checkpoint) *Checkpoint {
	return &Checkpoint{m.GetName(), m.GetStep(), m.GetCreateTime().AsTime(), m.GetSizeBytes(), m.GetRun(),
		m.GetIteration(), m.GetBest(), metricsOf(m.GetMetrics()), metricsOf(m.GetValidation())}
}

// CreateCheckpoint stores the state of a model under an id. It is allowed during a run. Options:
// [RequestID].
func (c *Client) CreateCheckpoint(ctx context.Context, model, id string, options ...ChangeOption) (*Checkpoint, error) {
	var wrong violations
	request := &pb.CreateCheckpointRequest{Model: modelName(&wrong, "model", model), CheckpointId: id,
		RequestId: changeID(options)}
	if id == "" {
		wrong.add("checkpoint_id", "is required")
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	response, err := unary(ctx, c, c.rpc.CreateCheckpoint, request)
	if err != nil {
		return nil, err
	}
	return checkpointOf(response.GetCheckpoint()), nil
}

// ListCheckpoints yields the checkpoints of a model in order of name. An error is the last element.
func (c *Client) ListCheckpoints(ctx context.Context, model string) iter.Seq2[*Checkpoint, error] {
	return pages(func(token string) ([]*pb.Checkpoint, string, error) {
		var wrong violations
		request := &pb.ListCheckpointsRequest{Model: modelName(&wrong, "model", model), PageToken: token}
		if err := wrong.err(); err != nil {
			return nil, "", err
		}
		response, err := unary(ctx, c, c.rpc.ListCheckpoints, request)
		return response.GetCheckpoints(), response.GetNextPageToken(), err
	}, checkpointOf)
}

// RestoreCheckpoint resets a model to one of its checkpoints and returns the step count. Options:
// [ExpectedStep], [RequestID].
func (c *Client) RestoreCheckpoint(ctx context.Context, model, id string, options ...StepOption) (int64, error) {
	config := stepOptions(options)
	var wrong violations
	request := &pb.RestoreCheckpointRequest{Name: checkpointName(&wrong, model, id), ExpectedStep: config.expected,
		RequestId: config.id()}
	if err := wrong.err(); err != nil {
		return 0, err
	}
	response, err := unary(ctx, c, c.rpc.RestoreCheckpoint, request)
	return response.GetStep(), err
}

// DeleteCheckpoint deletes a checkpoint. Options: [RequestID].
func (c *Client) DeleteCheckpoint(ctx context.Context, model, id string, options ...ChangeOption) error {
	var wrong violations
	request := &pb.DeleteCheckpointRequest{Name: checkpointName(&wrong, model, id), RequestId: changeID(options)}
	if err := wrong.err(); err != nil {
		return err
	}
	_, err := unary(ctx, c, c.rpc.DeleteCheckpoint, request)
	return err
}
