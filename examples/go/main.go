// XOR with code generated from the .proto files: creates a model, trains it, predicts and checks
// the gradients.
//
//	go run . HOST:PORT
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	pb "backprop.dev/go/backprop/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// raw returns numbers as little-endian bytes, on every machine.
func raw(numbers any, kind pb.DataType, shape ...int32) *pb.Tensor {
	var out bytes.Buffer
	if err := binary.Write(&out, binary.LittleEndian, numbers); err != nil {
		log.Fatal(err)
	}
	return &pb.Tensor{Shape: shape, Raw: out.Bytes(), DataType: kind,
		ByteOrder: pb.ByteOrder_BYTE_ORDER_LITTLE_ENDIAN}
}

// xor returns 200 points of a grid; the label is 1 if their coordinates have the same sign.
func xor() *pb.Batch {
	var points []float32
	var labels []int32
	for i := 0; i < 20; i++ {
		for j := 0; j < 10; j++ {
			x, y := (float32(i)+0.5)/10-1, (float32(j)+0.5)/5-1
			points = append(points, x, y)
			label := int32(0)
			if x*y > 0 {
				label = 1
			}
			labels = append(labels, label)
		}
	}
	return &pb.Batch{
		Inputs: raw(points, pb.DataType_DATA_TYPE_FLOAT32, 200, 2),
		Labels: raw(labels, pb.DataType_DATA_TYPE_INT32, 200),
	}
}

// train follows a run to its end. If the loop returns early, the context must be cancelled; until
// then the run continues.
func train(ctx context.Context, client pb.TrainingServiceClient, request *pb.TrainRequest) (*pb.TrainingSummary, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Train(ctx, request)
	if err != nil {
		return nil, err
	}
	var summary *pb.TrainingSummary
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return summary, nil
		}
		if err != nil {
			return nil, err
		}
		switch event := response.Event.Event.(type) {
		case *pb.TrainingEvent_Progress:
			metrics := event.Progress.Metrics
			fmt.Printf("iteration %4d: loss %.4f, accuracy %.3f\n", event.Progress.Iteration, metrics.Loss, metrics.GetAccuracy())
		case *pb.TrainingEvent_Summary:
			summary = event.Summary
		}
	}
}

// violations returns the invalid fields of a request: google.rpc.BadRequest in the status details.
func violations(err error) []*errdetails.BadRequest_FieldViolation {
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			return bad.FieldViolations
		}
	}
	return nil
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go run . HOST:PORT")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// The default limit of a response is 4 MB; the parameters of a large model need more.
	conn, err := grpc.Dial(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(256<<20)))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := pb.NewTrainingServiceClient(conn)

	rate := 0.01
	created, err := client.CreateModel(ctx, &pb.CreateModelRequest{Spec: &pb.ModelSpec{
		InputSize: 2,
		Layers:    []*pb.Layer{{Units: 16}, {Units: 2}},
		Optimizer: &pb.Optimizer{Kind: &pb.Optimizer_Adam{Adam: &pb.Adam{LearningRate: &rate}}},
		Seed:      1,
	}})
	if err != nil {
		log.Fatal(err)
	}
	model := created.Model.Name
	fmt.Printf("created %s with %d parameters\n", model, created.Model.ParameterCount)

	iterations, every := int64(2000), int64(500)
	summary, err := train(ctx, client, &pb.TrainRequest{Model: model, Data: xor(), Config: &pb.TrainingConfig{
		Length: &pb.TrainingConfig_Iterations{Iterations: iterations}, ReportEvery: &every}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(summary.StopReason)

	corners := []float32{-0.5, -0.5, -0.5, 0.5, 0.5, -0.5, 0.5, 0.5}
	answer, err := client.Predict(ctx, &pb.PredictRequest{Model: model,
		Inputs: raw(corners, pb.DataType_DATA_TYPE_FLOAT32, 4, 2)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("corners:", answer.Classes)

	check, err := client.GradCheck(ctx, &pb.GradCheckRequest{Model: model, Batch: xor()})
	if err != nil {
		log.Fatal(err)
	}
	verdict := "PASSED"
	if !check.Result.Passed {
		verdict = "not passed: " + check.Result.Explanation
	}
	fmt.Println("gradients:", verdict)

	_, err = client.CreateModel(ctx, &pb.CreateModelRequest{Spec: &pb.ModelSpec{InputSize: 2, Layers: []*pb.Layer{{}}}})
	fields := violations(err)
	for _, violation := range fields {
		fmt.Printf("%s: %s: %s\n", status.Code(err), violation.Field, violation.Description)
	}

	if _, err := client.DeleteModel(ctx, &pb.DeleteModelRequest{Name: model}); err != nil {
		log.Fatal(err)
	}
	if summary.Metrics.GetAccuracy() < 0.95 || fmt.Sprint(answer.Classes) != "[1 0 0 1]" || !check.Result.Passed {
		log.Fatal("the model did not learn XOR")
	}
	if len(fields) != 1 || fields[0].Field != "spec.layers[0].units" {
		log.Fatal("the error does not name its field")
	}
}
