// Package backprop is the client of backpropd, a server that holds small neural networks
// (multi-layer perceptrons) and trains them.
//
//	client, err := backprop.NewClient("localhost:50051")
//	if err != nil { … }
//	defer client.Close()
//	spec := backprop.ModelSpec{
//		InputSize: 2,
//		Layers:    []backprop.Layer{{Units: 16}, {Units: 2}},
//		Optimizer: backprop.Adam{LearningRate: 0.01},
//	}
//	model, err := client.CreateModel(ctx, spec, backprop.ModelID("xor"))
//	summary, err := client.Train(ctx, "xor", batch, backprop.Iterations(2000),
//		backprop.OnProgress(func(p backprop.Progress) { fmt.Println(p.Iteration, p.Metrics.Loss) }))
//	prediction, err := client.Predict(ctx, "xor", backprop.FromRows([][]float32{{0.7, 0.7}}))
//
// # Calls, deadlines and retries
//
// Every method takes a context. Cancelling it ends the call. A unary call whose context has no
// deadline has one of 60 s ([WithTimeout]); runs, uploads and files have none.
//
// Calls that end with UNAVAILABLE are repeated, with growing random pauses ([Retry]); calls that
// end with RESOURCE_EXHAUSTED only if the server says when to retry. All attempts of a change have
// the same request id, so the server makes the change once, also if it was restarted in between.
// Nothing else is repeated. An attempt does not wait for a server that cannot be reached, unless
// [WithWaitForReady] is given.
//
// [Client.Train] attaches to its run again, [Client.Watch] resumes after the last event that it has
// received, [Client.UploadDataset] resumes after the rows that the server has, and [Client.Steps]
// sends the steps without a response again. [Client.ExportModel] and [Client.ImportModel] are
// repeated if the file can be written or read again from the start.
//
// # Runs
//
// A run ends with its call, unless it is detached ([Detach]): leaving the loop over
// [Client.TrainEvents], an error of [OnEvent], and the end of the context stop it. The model keeps
// the steps that were made.
//
// # Tensors
//
// A [Tensor] refers to a slice of float32 or float64 and travels as raw little-endian bytes. On
// little-endian machines no number is converted or copied on the way from the slice to the message
// and from the message to the slice; on others they are converted.
//
// # Errors
//
// The error of a call is an *[Error] with the code, the wrong fields, the reason and its metadata.
// The server validates requests; the client checks only shapes against the number of values, empty
// names, and unknown enum values, and returns the same error as the server would.
//
// # Generated code
//
// Package backprop.dev/go/backprop/v1 has the messages and stubs of the contract. Programs that use
// this package do not need it.
package backprop
