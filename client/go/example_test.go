package backprop_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"slices"

	backprop "backprop.dev/go"
	"google.golang.org/grpc/codes"
)

// The examples run against a server that the tests start: "localhost:50051" in your program.
var address = "localhost:50051"

// The tests know the address only when the server has started.
func init() { backprop.SetExampleAddress = func(a string) { address = a } }

func Example() {
	ctx := context.Background()
	client, err := backprop.NewClient(address)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()

	spec := backprop.ModelSpec{
		InputSize: 2,
		Layers:    []backprop.Layer{{Units: 16}, {Units: 2}},
		Optimizer: backprop.Adam{LearningRate: 0.05},
		Seed:      1,
	}
	model, err := client.CreateModel(ctx, spec)
	if err != nil {
		log.Fatal(err)
	}
	rows := backprop.Batch{
		Inputs: backprop.FromRows([][]float32{{-1, -1}, {-1, 1}, {1, -1}, {1, 1}}),
		Labels: []int32{1, 0, 0, 1},
	}
	summary, err := client.Train(ctx, model.Name, rows, backprop.Iterations(500))
	if err != nil {
		log.Fatal(err)
	}
	prediction, err := client.Predict(ctx, model.Name, backprop.FromRows([][]float32{{1, 1}, {1, -1}}))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(summary.StopReason, prediction.Classes)
	// Output: COMPLETED [1 0]
}

func ExampleClient_TrainEvents() {
	ctx := context.Background()
	client, err := backprop.NewClient(address)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	model, err := client.CreateModel(ctx, backprop.ModelSpec{
		InputSize: 1,
		Layers:    []backprop.Layer{{Units: 1}},
		Loss:      backprop.MeanSquaredError{},
		Optimizer: backprop.SGD{LearningRate: 0.1},
	})
	if err != nil {
		log.Fatal(err)
	}
	line := backprop.Batch{
		Inputs:  backprop.NewTensor([]float64{0, 1, 2, 3}, 4, 1),
		Targets: backprop.NewTensor([]float64{1, 3, 5, 7}, 4, 1),
	}
	for event, err := range client.TrainEvents(ctx, model.Name, line, backprop.Iterations(1_000_000), backprop.ReportEvery(10)) {
		if err != nil {
			log.Fatal(err)
		}
		if p := event.Progress; p != nil && p.Metrics.Loss < 0.01 {
			fmt.Println("good enough")
			break // stops the run
		}
	}
	// Output: good enough
}

func ExampleClient_Steps() {
	ctx := context.Background()
	client, err := backprop.NewClient(address)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	model, err := client.CreateModel(ctx, backprop.ModelSpec{InputSize: 1, Layers: []backprop.Layer{{Units: 2}}})
	if err != nil {
		log.Fatal(err)
	}
	batch := backprop.Batch{Inputs: backprop.NewTensor([]float32{1, 2}, 2, 1), Labels: []int32{0, 1}}
	wrong := backprop.Batch{Inputs: batch.Inputs, Labels: []int32{0, 7}}
	for result, err := range client.Steps(ctx, model.Name, slices.Values([]backprop.Batch{batch, wrong, batch}), 0) {
		switch {
		case err == nil:
			fmt.Println("step", result.Step)
		case backprop.StepRejected(err):
			fmt.Println("rejected")
		default:
			log.Fatal(err)
		}
	}
	// Output:
	// step 1
	// rejected
	// step 2
}

func ExampleError() {
	client, err := backprop.NewClient(address)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	_, err = client.CreateModel(context.Background(), backprop.ModelSpec{InputSize: 2, Layers: []backprop.Layer{{}}})
	var e *backprop.Error
	if errors.As(err, &e) && e.Code == codes.InvalidArgument {
		for _, v := range e.Violations {
			fmt.Printf("%s: %s\n", v.Field, v.Description)
		}
	}
	// Output: spec.layers[0].units: must be at least 1, got 0
}
