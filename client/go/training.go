package backprop

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"time"

	pb "backprop.dev/go/backprop/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Metrics are the loss and the accuracy on some rows.
type Metrics struct {
	Loss     float64
	Accuracy *float64 // nil for regression
	Rows     int64
}

func metricsOf(m *pb.Metrics) *Metrics {
	if m == nil {
		return nil
	}
	return &Metrics{m.GetLoss(), m.Accuracy, m.GetRows()}
}

// someMetrics is metricsOf for fields that are always set.
func someMetrics(m *pb.Metrics) Metrics { return Metrics{m.GetLoss(), m.Accuracy, m.GetRows()} }

// StopReason says why a run ended.
type StopReason int32

// The reasons.
const (
	Completed      = StopReason(pb.StopReason_STOP_REASON_COMPLETED)
	Stopped        = StopReason(pb.StopReason_STOP_REASON_STOPPED)   // by StopTraining
	Cancelled      = StopReason(pb.StopReason_STOP_REASON_CANCELLED) // with its call
	Diverged       = StopReason(pb.StopReason_STOP_REASON_DIVERGED)  // keeps the last finite state
	ModelDeleted   = StopReason(pb.StopReason_STOP_REASON_MODEL_DELETED)
	ServerShutdown = StopReason(pb.StopReason_STOP_REASON_SERVER_SHUTDOWN)
	EarlyStopped   = StopReason(pb.StopReason_STOP_REASON_EARLY_STOPPED)
	DataLost       = StopReason(pb.StopReason_STOP_REASON_DATA_LOST)
)

// String returns the name of the contract without its prefix: "COMPLETED".
func (r StopReason) String() string {
	return strings.ToUpper(enumName(pb.StopReason(r), "STOP_REASON_"))
}

// An Event is one event of a run. Exactly one of Started, Progress and Summary is set.
type Event struct {
	Run      string // models/{id}/runs/{n}
	Sequence int64  // from 1
	Dropped  int64  // events that a slow reader missed since its previous event
	Started  *RunStarted
	Progress *Progress
	Summary  *Summary
}

// RunStarted is the first event of a run.
type RunStarted struct {
	TotalIterations, IterationsPerEpoch, Rows, StartStep int64
	ValidationRows, BatchSize, ResumedBatches            int64
}

// Progress is a report of a run.
type Progress struct {
	Iteration, TotalIterations, Epoch, Step int64
	Metrics                                 Metrics // on the batch of the iteration, before its update
	LearningRate, GradientNorm              float64
	SamplesPerSecond                        float64
	ETA                                     time.Duration
	Validation                              *Metrics // after the last complete epoch
}

// Summary is the last event of a run. Divergence is not an error: it is the StopReason Diverged.
type Summary struct {
	StopReason    StopReason
	Iterations    int64    // of this run
	Step          int64    // of the model
	Metrics       *Metrics // on all training rows, with the final parameters
	Elapsed       time.Duration
	Message       string // with Diverged: what was not finite
	Validation    *Metrics
	BestIteration int64 // with early stopping
	BestLoss      float64
	RestoredBest  bool
}

func summaryOf(m *pb.TrainingSummary) *Summary {
	return &Summary{StopReason(m.GetStopReason()), m.GetIterations(), m.GetStep(), metricsOf(m.GetMetrics()),
		m.GetElapsed().AsDuration(), m.GetMessage(), metricsOf(m.GetValidation()), m.GetBestIteration(),
		m.GetBestLoss(), m.GetRestoredBest()}
}

func eventOf(m *pb.TrainingEvent) Event {
	e := Event{Run: m.GetRun(), Sequence: m.GetSequence(), Dropped: m.GetDropped()}
	switch m := m.GetEvent().(type) {
	case *pb.TrainingEvent_Started:
		s := m.Started
		e.Started = &RunStarted{s.GetTotalIterations(), s.GetIterationsPerEpoch(), s.GetRows(), s.GetStartStep(),
			s.GetValidationRows(), s.GetBatchSize(), s.GetResumedBatches()}
	case *pb.TrainingEvent_Progress:
		p := m.Progress
		e.Progress = &Progress{p.GetIteration(), p.GetTotalIterations(), p.GetEpoch(), p.GetStep(),
			someMetrics(p.GetMetrics()), p.GetLearningRate(), p.GetGradientNorm(), p.GetSamplesPerSecond(),
			p.GetEta().AsDuration(), metricsOf(p.GetValidation())}
	case *pb.TrainingEvent_Summary:
		e.Summary = summaryOf(m.Summary)
	}
	return e
}

type trainConfig struct {
	changeConfig
	request pb.TrainRequest
	rows    Rows // to validate on
	onEvent func(Event) error
}

type trainFunc func(*trainConfig)

func (f trainFunc) train(c *trainConfig) { f(c) }

// plan changes the TrainingConfig of a run.
func plan(change func(*pb.TrainingConfig)) TrainOption {
	return trainFunc(func(c *trainConfig) { change(c.request.GetConfig()) })
}

// Iterations is the length of a run in steps. A run needs Iterations or [Epochs].
func Iterations(n int64) TrainOption {
	return plan(func(c *pb.TrainingConfig) { c.Length = &pb.TrainingConfig_Iterations{Iterations: n} })
}

// Epochs is the length of a run in passes over its rows.
func Epochs(n int64) TrainOption {
	return plan(func(c *pb.TrainingConfig) { c.Length = &pb.TrainingConfig_Epochs{Epochs: n} })
}

// BatchSize is the number of rows of a step. Default, and maximum: all rows.
func BatchSize(n int32) TrainOption { return plan(func(c *pb.TrainingConfig) { c.BatchSize = &n }) }

// Shuffle says whether each epoch has a new order. Default: true with batches.
func Shuffle(on bool) TrainOption { return plan(func(c *pb.TrainingConfig) { c.Shuffle = &on }) }

// ReportEvery is the number of iterations between two reports. Default: 1/100 of the run.
func ReportEvery(n int64) TrainOption { return plan(func(c *pb.TrainingConfig) { c.ReportEvery = &n }) }

// ReportInterval is the maximum time between two reports, at least 1 ms. Default: 1 s.
func ReportInterval(d time.Duration) TrainOption {
	return plan(func(c *pb.TrainingConfig) { c.ReportInterval = durationpb.New(d) })
}

// Detach lets the run continue when its call ends.
func Detach() TrainOption { return trainFunc(func(c *trainConfig) { c.request.Detach = true }) }

// WaitForRun waits for the end of an active run. Without it Train fails with RUN_UNDER_WAY.
func WaitForRun() TrainOption { return trainFunc(func(c *trainConfig) { c.request.Wait = true }) }

// Validation gives rows that are evaluated after every epoch.
func Validation(rows Rows) TrainOption { return trainFunc(func(c *trainConfig) { c.rows = rows }) }

// ValidationSplit holds out a fraction of the rows, in (0, 1), for validation.
func ValidationSplit(fraction float64) TrainOption {
	return plan(func(c *pb.TrainingConfig) { c.ValidationSplit = &fraction })
}

// RedrawValidationSplit draws a new split for this run.
func RedrawValidationSplit() TrainOption {
	return plan(func(c *pb.TrainingConfig) { c.RedrawValidationSplit = true })
}

// Stratify says whether the split keeps the proportions of the classes. Default: true.
func Stratify(on bool) TrainOption { return plan(func(c *pb.TrainingConfig) { c.Stratify = &on }) }

// ContinueEpoch resumes the epoch that the previous run left unfinished.
func ContinueEpoch() TrainOption { return plan(func(c *pb.TrainingConfig) { c.ContinueEpoch = true }) }

// EarlyStopping ends a run when the validation loss (without validation: the training loss of the
// epoch) has not improved for some epochs.
type EarlyStopping struct {
	Patience    int64 // epochs; default 10
	MinDelta    float64
	RestoreBest *bool // default true
}

func (e EarlyStopping) train(c *trainConfig) {
	c.request.GetConfig().EarlyStopping = &pb.EarlyStopping{Patience: setInt(e.Patience), MinDelta: set(e.MinDelta),
		RestoreBest: e.RestoreBest}
}

// AutoCheckpoints are checkpoints that the run makes. At least one of EveryIterations and KeepBest
// must be set.
type AutoCheckpoints struct {
	EveryIterations int64
	KeepLast        int32 // default 3
	KeepBest        bool
}

func (a AutoCheckpoints) train(c *trainConfig) {
	c.request.GetConfig().Checkpoints = &pb.CheckpointConfig{EveryIterations: setInt(a.EveryIterations),
		KeepLast: setInt(a.KeepLast), KeepBest: a.KeepBest}
}

func newTrain(model string, data Rows, options []TrainOption) (*trainConfig, error) {
	config := &trainConfig{}
	config.request.Config = &pb.TrainingConfig{}
	for _, option := range options {
		option.train(config)
	}
	request := &config.request
	var wrong violations
	request.Model = modelName(&wrong, "model", model)
	request.RequestId = config.id()
	if data == nil {
		wrong.add("data", "is required")
	} else if batch, name := data.rowsOf(); batch != nil {
		request.Data = batch.proto(&wrong, "data")
	} else {
		request.Dataset = checkedName(&wrong, "dataset", "datasets/", name)
	}
	if config.rows != nil {
		if batch, name := config.rows.rowsOf(); batch != nil {
			request.Validation = batch.proto(&wrong, "validation")
		} else {
			request.ValidationDataset = checkedName(&wrong, "validation_dataset", "datasets/", name)
		}
	}
	return config, wrong.err()
}

// Train trains a model on rows and returns when the run has ended. If the connection breaks or the
// server restarts, it attaches to the same run again and reports no event twice. Ending ctx ends
// the call and, unless the run is detached, stops the run. If a broken connection has stopped the
// run, Train fails with UNAVAILABLE (CONNECTION_BROKE): give [Detach] to prevent that.
//
// Options: [Iterations] or [Epochs], [BatchSize], [Shuffle], [OnEvent] or [OnProgress],
// [ReportEvery], [ReportInterval], [Validation], [ValidationSplit], [RedrawValidationSplit],
// [Stratify], [EarlyStopping], [AutoCheckpoints], [ContinueEpoch], [Detach], [WaitForRun],
// [RequestID].
func (c *Client) Train(ctx context.Context, model string, rows Rows, options ...TrainOption) (*Summary, error) {
	config, err := newTrain(model, rows, options)
	if err != nil {
		return nil, err
	}
	return drain(c.trainEvents(ctx, config))
}

// TrainEvents is [Client.Train] as an iterator over the events of the run. The last element is the
// event with the Summary, or an error. Leaving the loop ends the call and, unless the run is
// detached, stops the run.
func (c *Client) TrainEvents(ctx context.Context, model string, rows Rows,
	options ...TrainOption) iter.Seq2[Event, error] {
	config, err := newTrain(model, rows, options)
	if err != nil {
		return func(yield func(Event, error) bool) { yield(Event{}, err) }
	}
	return c.trainEvents(ctx, config)
}

func (c *Client) trainEvents(ctx context.Context, config *trainConfig) iter.Seq2[Event, error] {
	return c.follow(ctx, config.onEvent, !config.request.GetDetach(),
		func(ctx context.Context, _ string, _ int64) (eventStream, error) {
			stream, err := c.rpc.Train(ctx, &config.request)
			return receiver(stream, err)
		})
}

// Watch follows the active run of a model, or its latest one, to its end. It resumes after the last
// event that it has received when the connection breaks or the server restarts. Ending ctx ends the
// call, not the run. Options: [Run], [FromSequence], [OnEvent] or [OnProgress].
func (c *Client) Watch(ctx context.Context, model string, options ...WatchOption) (*Summary, error) {
	return drain(c.WatchEvents(ctx, model, options...))
}

// WatchEvents is [Client.Watch] as an iterator over the events. The last element is the event with
// the Summary, or an error.
func (c *Client) WatchEvents(ctx context.Context, model string, options ...WatchOption) iter.Seq2[Event, error] {
	config := watchOptions(options)
	var wrong violations
	name := modelName(&wrong, "model", model)
	if err := wrong.err(); err != nil {
		return func(yield func(Event, error) bool) { yield(Event{}, err) }
	}
	return c.follow(ctx, config.onEvent, false, func(ctx context.Context, run string, next int64) (eventStream, error) {
		request := &pb.WatchTrainingRequest{Model: name, Run: config.run, FromSequence: max(config.from, next)}
		if run != "" {
			request.Run = run
		}
		stream, err := c.rpc.WatchTraining(ctx, request)
		return receiver(stream, err)
	})
}

func watchOptions(options []WatchOption) (config watchConfig) {
	for _, option := range options {
		option.watch(&config)
	}
	return config
}

// An eventStream returns the next event of a stream; io.EOF at its end.
type eventStream func() (*pb.TrainingEvent, error)

func receiver[R interface {
	*pb.TrainResponse | *pb.WatchTrainingResponse
	GetEvent() *pb.TrainingEvent
}](stream interface{ Recv() (R, error) }, err error) (eventStream, error) {
	if err != nil {
		return nil, err
	}
	return func() (*pb.TrainingEvent, error) {
		response, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		return response.GetEvent(), nil
	}, nil
}

// drain returns the summary at the end of events.
func drain(events iter.Seq2[Event, error]) (*Summary, error) {
	var summary *Summary
	for event, err := range events {
		if err != nil {
			return nil, err
		}
		summary = event.Summary
	}
	return summary, nil
}

// A following is the state of one reader of a run, over all its connections.
type following struct {
	attempts
	onEvent func(Event) error
	yield   func(Event, error) bool
	run     string // of the last event
	next    int64  // sequence of the next event to deliver
	broke   bool   // an earlier connection broke
	endsRun bool   // the run ends with the call
}

// follow reads a stream of events up to the summary and opens it again when it breaks. open starts
// it at an event of a run; "": the run that the caller asked for. Each event is delivered once: to
// onEvent, then to the loop.
func (c *Client) follow(ctx context.Context, onEvent func(Event) error, endsRun bool,
	open func(ctx context.Context, run string, next int64) (eventStream, error)) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f := following{attempts: attempts{retry: c.config.retry}, onEvent: onEvent, yield: yield, next: 1, endsRun: endsRun}
		for {
			err := f.read(ctx, open)
			if err == nil {
				return
			}
			if !f.again(ctx, err) {
				yield(Event{}, orDone(ctx, err))
				return
			}
			f.broke = true
		}
	}
}

// read delivers the events of one connection. It returns nil when there is nothing more to deliver:
// after the summary, or because the caller wants no more.
func (f *following) read(ctx context.Context, open func(context.Context, string, int64) (eventStream, error)) *Error {
	call, cancel := context.WithCancel(ctx)
	defer cancel() // also when the body of the loop panics: the server then ends the call
	receive, err := open(call, f.run, f.next)
	if err != nil {
		return errorOf(ctx, err)
	}
	for {
		m, err := receive()
		if errors.Is(err, io.EOF) {
			return failed(codes.Unavailable, "", "the stream ended without a summary")
		}
		if err != nil {
			return errorOf(ctx, err)
		}
		f.reset()
		if f.run != m.GetRun() {
			// The first event, or a server that has lost the run has started another.
			f.run, f.next = m.GetRun(), 1
		}
		if m.GetSequence() < f.next {
			continue
		}
		f.next = m.GetSequence() + 1
		event := eventOf(m)
		if s := event.Summary; s != nil && f.broke && f.endsRun && s.StopReason == Cancelled {
			f.yield(Event{}, failed(codes.Unavailable, "CONNECTION_BROKE", "the connection broke, which stopped "+
				"the run after %d iterations; a detached run would have continued", s.Iterations))
			return nil
		}
		if f.onEvent != nil {
			if err := f.onEvent(event); err != nil {
				f.yield(Event{}, err)
				return nil
			}
		}
		if !f.yield(event, nil) {
			return nil
		}
		if event.Summary != nil {
			_, _ = receive() // the end of the stream
			return nil
		}
	}
}

// A StopResult is the run that was stopped.
type StopResult struct {
	Run     string
	Summary Summary
}

// StopTraining stops the active run of a model after its current step and returns when it has
// ended. Options: [Run], [RequestID].
func (c *Client) StopTraining(ctx context.Context, model string, options ...WatchOption) (*StopResult, error) {
	config := watchOptions(options)
	var wrong violations
	request := &pb.StopTrainingRequest{Model: modelName(&wrong, "model", model), Run: config.run,
		RequestId: config.id()}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	response, err := unary(ctx, c, c.rpc.StopTraining, request)
	if err != nil {
		return nil, err
	}
	return &StopResult{response.GetRun(), *summaryOf(response.GetSummary())}, nil
}
