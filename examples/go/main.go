// XOR with the Go client: creates a model, trains it, predicts and checks the gradients.
//
//	go run . HOST:PORT
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"time"

	backprop "backprop.dev/go"
	"google.golang.org/grpc/codes"
)

// xor returns 200 points of a grid; the label is 1 if their coordinates have the same sign.
func xor() backprop.Batch {
	var points []float32
	var labels []int32
	for i := range 20 {
		for j := range 10 {
			x, y := (float32(i)+0.5)/10-1, (float32(j)+0.5)/5-1
			points = append(points, x, y)
			label := int32(0)
			if x*y > 0 {
				label = 1
			}
			labels = append(labels, label)
		}
	}
	return backprop.Batch{Inputs: backprop.NewTensor(points, 200, 2), Labels: labels}
}

func run(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client, err := backprop.NewClient(address)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()

	model, err := client.CreateModel(ctx, backprop.ModelSpec{
		InputSize: 2,
		Layers:    []backprop.Layer{{Units: 16}, {Units: 2}},
		Optimizer: backprop.Adam{LearningRate: 0.01},
		Seed:      1,
	})
	if err != nil {
		return err
	}
	fmt.Printf("created %s with %d parameters\n", model.Name, model.ParameterCount)

	summary, err := client.Train(ctx, model.Name, xor(), backprop.Iterations(2000), backprop.ReportEvery(500),
		backprop.OnProgress(func(p backprop.Progress) {
			fmt.Printf("iteration %4d: loss %.4f, accuracy %.3f\n", p.Iteration, p.Metrics.Loss, *p.Metrics.Accuracy)
		}))
	if err != nil {
		return err
	}
	fmt.Println(summary.StopReason)

	corners := backprop.FromRows([][]float32{{-0.5, -0.5}, {-0.5, 0.5}, {0.5, -0.5}, {0.5, 0.5}})
	prediction, err := client.Predict(ctx, model.Name, corners)
	if err != nil {
		return err
	}
	fmt.Println("corners:", prediction.Classes)

	check, err := client.GradCheck(ctx, model.Name, xor(), nil)
	if err != nil {
		return err
	}
	fmt.Println("gradients:", check.Verdict)

	_, err = client.CreateModel(ctx, backprop.ModelSpec{InputSize: 2, Layers: []backprop.Layer{{}}})
	var wrong *backprop.Error
	if !errors.As(err, &wrong) || wrong.Code != codes.InvalidArgument || len(wrong.Violations) != 1 {
		return fmt.Errorf("the error does not name its field: %w", err)
	}
	fmt.Println(wrong)

	if err := client.DeleteModel(ctx, model.Name); err != nil {
		return err
	}
	if *summary.Metrics.Accuracy < 0.95 || !slices.Equal(prediction.Classes, []int32{1, 0, 0, 1}) ||
		check.Verdict != backprop.Passed {
		return errors.New("the model did not learn XOR")
	}
	return nil
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go run . HOST:PORT")
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}
