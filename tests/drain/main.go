// Command drain makes calls at a fixed rate, with the retry policy of a service config, and prints
// what became of them as JSON. The drain test runs it while the server restarts.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
)

// What a client of the server is advised to use. A call waits while there is no connection, and is
// retried when the server did not answer it.
const serviceConfig = `{"methodConfig": [{
	"name": [{"service": "backprop.v1.TrainingService"}],
	"waitForReady": true,
	"timeout": "20s",
	"retryPolicy": {
		"maxAttempts": 5,
		"initialBackoff": "0.05s",
		"maxBackoff": "1s",
		"backoffMultiplier": 2,
		"retryableStatusCodes": ["UNAVAILABLE"]
	}
}]}`

// bytesCodec passes messages as they are: the test has serialized them.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(message any) ([]byte, error) { return message.([]byte), nil }

func (bytesCodec) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// withRequestID appends the field of a string to a serialized request.
func withRequestID(request []byte, field int, id string) []byte {
	out := append([]byte(nil), request...)
	out = binary.AppendUvarint(out, uint64(field)<<3|2)
	out = binary.AppendUvarint(out, uint64(len(id)))
	return append(out, id...)
}

// outcome is what became of the calls.
type outcome struct {
	Calls   int            `json:"calls"`
	OK      int            `json:"ok"`
	Errors  map[string]int `json:"errors"` // by code and message
	Slowest float64        `json:"slowest_seconds"`
}

type recorder struct {
	mu sync.Mutex
	outcome
}

func (r *recorder) record(err error, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Calls++
	if seconds := took.Seconds(); seconds > r.Slowest {
		r.Slowest = seconds
	}
	if err == nil {
		r.OK++
		return
	}
	r.Errors[fmt.Sprintf("%s: %s", status.Code(err), status.Convert(err).Message())]++
}

func run(target, method string, request []byte, field, rate int, seconds float64) (outcome, error) {
	channel, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(serviceConfig))
	if err != nil {
		return outcome{}, err
	}
	defer channel.Close()
	results := recorder{outcome: outcome{Errors: map[string]int{}}}
	var calls sync.WaitGroup
	begin := time.Now()
	end := begin.Add(time.Duration(seconds * float64(time.Second)))
	// Calls are due at a fixed rate, whatever became of those before.
	for i := 0; ; i++ {
		due := begin.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if due.After(end) {
			break
		}
		time.Sleep(time.Until(due))
		calls.Add(1)
		go func(i int) {
			defer calls.Done()
			called := time.Now()
			var response []byte
			message := request
			if field > 0 {
				message = withRequestID(request, field, fmt.Sprintf("drain-%d", i))
			}
			err := channel.Invoke(context.Background(), method, message, &response)
			results.record(err, time.Since(called))
		}(i)
		if i == 0 {
			calls.Wait() // the connection is open, so that the test knows that calls are made
			fmt.Println("begun")
		}
	}
	calls.Wait()
	return results.outcome, nil
}

func main() {
	target := flag.String("target", "", "address of the server, host:port")
	method := flag.String("method", "", "path of a method with one request and one response")
	file := flag.String("request", "", "file with the serialized request")
	field := flag.Int("request-id-field", 0, "number of the field for a unique id; 0: none")
	rate := flag.Int("rate", 1000, "calls per second")
	seconds := flag.Float64("seconds", 5, "duration")
	flag.Parse()
	request, err := os.ReadFile(*file)
	if err != nil {
		log.Fatal(err)
	}
	encoding.RegisterCodec(bytesCodec{})
	results, err := run(*target, *method, request, *field, *rate, *seconds)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		log.Fatal(err)
	}
}
