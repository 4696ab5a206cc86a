package backprop

import (
	"context"
	"errors"
	"io"
	"iter"

	pb "backprop.dev/go/backprop/v1"
	"google.golang.org/grpc/codes"
)

// MaxInFlight is the largest number of pipelined steps without a response.
const MaxInFlight = 32

// A StepResult is the outcome of one optimiser step.
type StepResult struct {
	Step         int64   // the step count of the model after the step
	Metrics      Metrics // on the batch, before the update
	GradientNorm float64
	LearningRate float64
}

func stepResultOf(m *pb.StepResponse) *StepResult {
	return &StepResult{m.GetStep(), someMetrics(m.GetMetrics()), m.GetGradientNorm(), m.GetLearningRate()}
}

// Step makes one optimiser step on a batch. Options: [ExpectedStep], [RequestID].
func (c *Client) Step(ctx context.Context, model string, batch Batch, options ...StepOption) (*StepResult, error) {
	config := stepOptions(options)
	var wrong violations
	request := &pb.StepRequest{Model: modelName(&wrong, "model", model), Batch: batch.proto(&wrong, "batch"),
		ExpectedStep: config.expected, RequestId: config.id()}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	response, err := unary(ctx, c, c.rpc.Step, request)
	if err != nil {
		return nil, err
	}
	return stepResultOf(response), nil
}

// Steps makes a step on each of the batches, pipelined: up to inFlight steps (0 or more than
// [MaxInFlight]: MaxInFlight) are on their way without a response. It yields one result for each
// batch, in their order. For a step that the server rejects it yields the error, and the loop
// continues with the next step. If the connection breaks or the server restarts, the steps without
// a response are sent again in order, with the same request ids; each is made once. Results that
// arrive while batches blocks are yielded after it has returned.
//
// An error that ends the steps is the last element; [StepRejected] distinguishes the two. Leaving
// the loop ends the call; steps on their way may still be made.
func (c *Client) Steps(ctx context.Context, model string, batches iter.Seq[Batch],
	inFlight int) iter.Seq2[*StepResult, error] {
	if inFlight < 1 || inFlight > MaxInFlight {
		inFlight = MaxInFlight
	}
	return func(yield func(*StepResult, error) bool) {
		next, stop := iter.Pull(batches)
		defer stop()
		p := &pipeline{client: c, model: model, next: next, limit: inFlight, yield: yield,
			attempts: attempts{retry: c.config.retry}}
		for {
			done, err := p.connection(ctx)
			if done {
				return
			}
			if e := errorOf(ctx, err); !p.again(ctx, e) {
				yield(nil, orDone(ctx, e))
				return
			}
		}
	}
}

// A StepError is the error of one step of [Client.Steps], which the server rejected: it changed
// nothing, and the other steps are not affected. It unwraps to the *[Error].
type StepError struct{ Err *Error }

func (e *StepError) Error() string { return e.Err.Error() }

// Unwrap returns the *Error.
func (e *StepError) Unwrap() error { return e.Err }

// StepRejected returns whether an error of [Client.Steps] is that of one step, after which the
// loop continues.
func StepRejected(err error) bool {
	var rejected *StepError
	return errors.As(err, &rejected)
}

// A pipeline is the state of Steps over all its connections. Its goroutine is that of the caller;
// each connection has one more, which receives.
type pipeline struct {
	attempts
	client *Client
	model  string
	next   func() (Batch, bool)
	limit  int
	yield  func(*StepResult, error) bool

	unanswered []*pb.StepStreamRequest // in order; at most limit
	ended      bool                    // there are no more batches
	failure    error                   // why; nil if all were sent
}

// A received is a message of the server, or the end of the stream.
type received struct {
	response *pb.StepStreamResponse
	err      error
}

// connection sends and receives on one stream. It returns true when all is done or the caller has
// left the loop.
func (p *pipeline) connection(ctx context.Context) (bool, error) {
	call, cancel := context.WithCancel(ctx)
	stream, err := p.client.rpc.StepStream(call)
	if err != nil {
		cancel()
		return false, err
	}
	// There is room for the responses to all steps on their way, and for the end of the stream.
	incoming := make(chan received, MaxInFlight+1)
	finished, quit := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(finished)
		for {
			response, err := stream.Recv()
			select {
			case incoming <- received{response, err}:
			case <-quit: // a server that sends more responses than there are steps
				return
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() {
		close(quit)
		cancel()
		<-finished
	}()
	for _, request := range p.unanswered {
		if stream.Send(request) != nil {
			return p.receive(incoming, true) // the reason is in the last message
		}
	}
	for {
		for !p.ended && len(p.unanswered) < p.limit {
			request := p.request()
			if request == nil {
				break
			}
			if stream.Send(request) != nil {
				return p.receive(incoming, true)
			}
			if left, err := p.poll(incoming); left || err != nil {
				return left, err
			}
		}
		if len(p.unanswered) == 0 {
			_ = stream.CloseSend()
			<-incoming // the end of the stream
			if p.failure != nil {
				p.yield(nil, p.failure)
			}
			return true, nil
		}
		if left, err := p.receive(incoming, false); left || err != nil {
			return left, err
		}
	}
}

// request takes the next batch; nil at the end, and for a batch that cannot be sent.
func (p *pipeline) request() *pb.StepStreamRequest {
	batch, ok := p.next()
	if !ok {
		p.ended = true
		return nil
	}
	var wrong violations
	step := &pb.StepRequest{Model: modelName(&wrong, "model", p.model), Batch: batch.proto(&wrong, "batch"),
		RequestId: newRequestID()}
	if p.failure = wrong.err(); p.failure != nil {
		p.ended = true
		return nil
	}
	request := &pb.StepStreamRequest{Step: step}
	p.unanswered = append(p.unanswered, request)
	return request
}

// poll delivers the responses that have arrived.
func (p *pipeline) poll(incoming <-chan received) (left bool, err error) {
	for len(incoming) > 0 {
		if left, err := p.receive(incoming, false); left || err != nil {
			return left, err
		}
	}
	return false, nil
}

// receive waits for the next response and delivers it; toEnd: for all up to the error that ends
// the stream. It returns whether the caller has left the loop.
func (p *pipeline) receive(incoming <-chan received, toEnd bool) (left bool, err error) {
	for {
		m := <-incoming
		if errors.Is(m.err, io.EOF) || m.err == nil && len(p.unanswered) == 0 {
			return false, failed(codes.Unavailable, "", "the stream of steps ended early")
		}
		if m.err != nil {
			return false, m.err
		}
		p.reset()
		p.unanswered[0] = nil
		p.unanswered = p.unanswered[1:]
		var more bool
		if e := m.response.GetError(); e != nil {
			more = p.yield(nil, &StepError{errorOfStatus(e)})
		} else {
			more = p.yield(stepResultOf(m.response.GetStep()), nil)
		}
		if !more || !toEnd {
			return !more, nil
		}
	}
}

// Gradients are dL/dp of a batch.
type Gradients struct {
	Tensors      []NamedTensor // names and shapes of the parameters
	Metrics      Metrics
	GradientNorm float64
	Weight       float64 // of the batch in a mean with others
	Step         int64   // of the parameters that were used
}

// ComputeGradients computes the gradient of the mean loss on a batch: the first half of a step. The
// model is unchanged.
func (c *Client) ComputeGradients(ctx context.Context, model string, batch Batch) (*Gradients, error) {
	var wrong violations
	request := &pb.ComputeGradientsRequest{Model: modelName(&wrong, "model", model),
		Batch: batch.proto(&wrong, "batch"), Encoding: pb.TensorEncoding_TENSOR_ENCODING_RAW}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	m, err := unary(ctx, c, c.rpc.ComputeGradients, request)
	if err != nil {
		return nil, err
	}
	return &Gradients{namedOf(m.GetGradients()), someMetrics(m.GetMetrics()), m.GetGradientNorm(), m.GetWeight(),
		m.GetStep()}, nil
}

// ApplyGradients makes the optimiser step of given gradients: the second half of a step. Gradients
// of replicas may be averaged before, weighted by their Weight. The result has no Metrics. Options:
// [ExpectedStep], [RequestID].
func (c *Client) ApplyGradients(ctx context.Context, model string, gradients []NamedTensor,
	options ...StepOption) (*StepResult, error) {
	config := stepOptions(options)
	var wrong violations
	request := &pb.ApplyGradientsRequest{Model: modelName(&wrong, "model", model),
		Gradients: namedProto(&wrong, "gradients", gradients), ExpectedStep: config.expected, RequestId: config.id()}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	m, err := unary(ctx, c, c.rpc.ApplyGradients, request)
	if err != nil {
		return nil, err
	}
	return &StepResult{Step: m.GetStep(), GradientNorm: m.GetGradientNorm(), LearningRate: m.GetLearningRate()}, nil
}
