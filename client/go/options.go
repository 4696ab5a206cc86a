package backprop

import "time"

// The options of calls. Each method takes its own kind of option, so that an option that has no
// effect on a call does not compile. [RequestID] is an option of all calls that change something.
type (
	// A CreateOption is an option of [Client.CreateModel].
	CreateOption interface{ create(*createConfig) }
	// A ListOption is an option of [Client.ListModels].
	ListOption interface{ list(*listConfig) }
	// A ChangeOption is an option of calls that change something and have no other options.
	ChangeOption interface{ change(*changeConfig) }
	// A TrainOption is an option of [Client.Train] and [Client.TrainEvents].
	TrainOption interface{ train(*trainConfig) }
	// A WatchOption is an option of [Client.Watch], [Client.WatchEvents] and [Client.StopTraining].
	WatchOption interface{ watch(*watchConfig) }
	// A StepOption is an option of the calls that may expect a step count.
	StepOption interface{ step(*stepConfig) }
	// An UploadOption is an option of [Client.UploadDataset].
	UploadOption interface{ upload(*uploadConfig) }
	// An ImportOption is an option of [Client.ImportModel].
	ImportOption interface{ importing(*importConfig) }
)

type (
	changeConfig struct{ requestID string }
	listConfig   struct {
		labels   map[string]string
		pageSize int
	}
	createConfig struct {
		changeConfig
		id         string
		labels     map[string]string
		ttl        time.Duration
		durability Durability
		parameters *Parameters
	}
	watchConfig struct {
		changeConfig
		run     string
		from    int64
		onEvent func(Event) error
	}
	stepConfig struct {
		changeConfig
		expected *int64
	}
	uploadConfig struct {
		changeConfig
		dataType     DataType
		labels       map[string]string
		featureNames []string
		chunkRows    int
		onProgress   func(rows int64)
	}
	importConfig struct {
		changeConfig
		id         string
		durability Durability
	}
)

// id returns the request id of a call: the given one or a new one.
func (c changeConfig) id() string {
	if c.requestID == "" {
		return newRequestID()
	}
	return c.requestID
}

// RequestID is the id of a change, 1 to 128 printable ASCII characters: a call with the id of an
// earlier one and the same content gets its response and changes nothing. Without it each call has
// a random id, which its retries keep. Give one to repeat a change safely from another process.
type RequestID string

func (r RequestID) change(c *changeConfig)    { c.requestID = string(r) }
func (r RequestID) create(c *createConfig)    { c.requestID = string(r) }
func (r RequestID) train(c *trainConfig)      { c.requestID = string(r) }
func (r RequestID) watch(c *watchConfig)      { c.requestID = string(r) }
func (r RequestID) step(c *stepConfig)        { c.requestID = string(r) }
func (r RequestID) upload(c *uploadConfig)    { c.requestID = string(r) }
func (r RequestID) importing(c *importConfig) { c.requestID = string(r) }

// ModelID is the id of a new model: 1 to 63 of [a-z0-9_-]. Without it the server draws one.
type ModelID string

func (id ModelID) create(c *createConfig)    { c.id = string(id) }
func (id ModelID) importing(c *importConfig) { c.id = string(id) }

// Labels are set on a new model or dataset, or select the models that are listed.
type Labels map[string]string

func (l Labels) create(c *createConfig) { c.labels = l }
func (l Labels) list(c *listConfig)     { c.labels = l }
func (l Labels) upload(c *uploadConfig) { c.labels = l }

type createFunc func(*createConfig)

func (f createFunc) create(c *createConfig) { f(c) }

// TTL deletes the model when it was not used for this time.
func TTL(d time.Duration) CreateOption { return createFunc(func(c *createConfig) { c.ttl = d }) }

// InitialParameters replaces the random ones: every tensor; the optimiser's state is optional.
func InitialParameters(p *Parameters) CreateOption {
	return createFunc(func(c *createConfig) { c.parameters = p })
}

func (d Durability) create(c *createConfig)    { c.durability = d }
func (d Durability) importing(c *importConfig) { c.durability = d }

// PageSize is how many models are read at once; at most 1000. It has no effect on the result.
type PageSize int

func (n PageSize) list(c *listConfig) { c.pageSize = int(n) }

// Run names the run to watch or to stop: "models/{id}/runs/{n}". Without it: the active run, for
// watching otherwise the latest.
type Run string

func (r Run) watch(c *watchConfig) { c.run = string(r) }

// FromSequence is the number of the first event to receive.
type FromSequence int64

func (n FromSequence) watch(c *watchConfig) { c.from = int64(n) }

// OnEvent is called for each event of a run, on the goroutine of the call. An error ends the call,
// which returns it; unless the run is detached, that stops the run.
type OnEvent func(Event) error

func (f OnEvent) train(c *trainConfig) { c.onEvent = f }
func (f OnEvent) watch(c *watchConfig) { c.onEvent = f }

// OnProgress is called for each progress report of a run, on the goroutine of the call.
type OnProgress func(Progress)

func (f OnProgress) event(e Event) error {
	if e.Progress != nil {
		f(*e.Progress)
	}
	return nil
}
func (f OnProgress) train(c *trainConfig) { c.onEvent = f.event }
func (f OnProgress) watch(c *watchConfig) { c.onEvent = f.event }

// ExpectedStep makes a change only if this is the step count of the model. Otherwise the call fails
// with ABORTED, and [Error.CurrentStep] returns the step count.
type ExpectedStep int64

func (n ExpectedStep) step(c *stepConfig) { c.expected = Ptr(int64(n)) }

// Precision is the type in which the rows of a dataset are stored. Default: Float32.
type Precision DataType

func (p Precision) upload(c *uploadConfig) { c.dataType = DataType(p) }

// FeatureNames names the inputs of a dataset, in their order. A model that names its features takes
// no others.
type FeatureNames []string

func (f FeatureNames) upload(c *uploadConfig) { c.featureNames = f }

// ChunkRows is the number of rows of a message. Default: those that fit into 1 MiB.
type ChunkRows int

func (n ChunkRows) upload(c *uploadConfig) { c.chunkRows = int(n) }

// OnUpload is called after each chunk, with the number of rows sent so far.
type OnUpload func(rows int64)

func (f OnUpload) upload(c *uploadConfig) { c.onProgress = f }
