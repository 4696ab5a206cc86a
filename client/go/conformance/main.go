// Conformance is the runner of the Go client for tests/conformance/run. It reads requests from
// stdin, one JSON object a line, calls the package as any program does, and writes replies and
// events to stdout.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"

	backprop "backprop.dev/go"
	"google.golang.org/grpc/codes"
)

// A request is one line of stdin.
type request struct {
	ID    int64     `json:"id"`
	Op    string    `json:"op"`
	Args  arguments `json:"args"`
	Async bool      `json:"async"`
}

// A runner holds the clients that are connected and the calls that can be cancelled.
type runner struct {
	mu      sync.Mutex
	out     *json.Encoder
	clients map[string]connected
	cancels map[int64]context.CancelFunc
}

// A connected client, or the error of its construction.
type connected struct {
	client *backprop.Client
	err    error
}

func (r *runner) write(line any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.out.Encode(line); err != nil {
		log.Fatal(err)
	}
}

// object is a JSON object.
type object = map[string]any

func errorReply(err error) object {
	var e *backprop.Error
	if !errors.As(err, &e) {
		return object{"code": "UNKNOWN", "message": err.Error()}
	}
	reply := object{"code": backprop.CodeName(e.Code), "message": e.Message, "reason": e.Reason, "metadata": e.Metadata}
	violations := []object{}
	for _, v := range e.Violations {
		violations = append(violations, object{"field": v.Field, "description": v.Description})
	}
	reply["violations"] = violations
	return reply
}

// do makes one call and writes its reply.
func (r *runner) do(ctx context.Context, q *request) {
	op, offered := ops[q.Op]
	switch {
	case q.Op == "connect":
		r.reply(q, object{}, r.connect(q.Args))
	case q.Op == "cancel":
		r.mu.Lock()
		cancel := r.cancels[q.Args.Target]
		r.mu.Unlock()
		if cancel != nil {
			cancel()
		}
		r.reply(q, object{}, nil)
	case !offered:
		r.write(object{"id": q.ID, "unsupported": true})
	default:
		client, err := r.client(q.Args.Client)
		if err != nil {
			r.reply(q, nil, err)
			return
		}
		if q.Args.TimeoutMs > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, milliseconds(q.Args.TimeoutMs))
			defer cancel()
		}
		result, err := op(ctx, client, &q.Args, func(event object) { r.write(object{"id": q.ID, "event": event}) })
		r.reply(q, result, err)
	}
}

func (r *runner) reply(q *request, result object, err error) {
	if err != nil {
		r.write(object{"id": q.ID, "error": errorReply(err)})
		return
	}
	r.write(object{"id": q.ID, "result": result})
}

func (r *runner) client(name string) (*backprop.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name == "" {
		name = "c"
	}
	c, ok := r.clients[name]
	if !ok {
		return nil, &backprop.Error{Code: codes.FailedPrecondition, Message: "there is no client " + name}
	}
	return c.client, c.err
}

func (r *runner) connect(a arguments) error {
	var options []backprop.Option
	if a.CA != "" {
		options = append(options, backprop.WithTLS(backprop.TLS{CAFile: a.CA, CertFile: a.Cert, KeyFile: a.Key}))
	}
	if a.Token != "" {
		options = append(options, backprop.WithToken(a.Token))
	}
	if a.TokenFile != "" {
		options = append(options, backprop.WithTokenFile(a.TokenFile))
	}
	if a.Retry != nil {
		options = append(options, backprop.WithRetry(backprop.Retry{MaxAttempts: a.Retry.MaxAttempts,
			FirstPause: milliseconds(a.Retry.FirstPauseMs), LastPause: milliseconds(a.Retry.LastPauseMs)}))
	}
	client, err := backprop.NewClient(a.Address, options...)
	name := a.As
	if name == "" {
		name = "c"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.clients[name].client; old != nil {
		_ = old.Close()
	}
	r.clients[name] = connected{client, err}
	return err
}

func main() {
	r := &runner{out: json.NewEncoder(os.Stdout), clients: map[string]connected{}, cancels: map[int64]context.CancelFunc{}}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	var background sync.WaitGroup
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		q := &request{}
		if err := json.Unmarshal(line, q); err != nil {
			r.reply(q, nil, fmt.Errorf("the request cannot be read: %w", asError(err)))
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		r.mu.Lock()
		r.cancels[q.ID] = cancel
		r.mu.Unlock()
		run := func() {
			r.do(ctx, q)
			cancel()
			r.mu.Lock()
			delete(r.cancels, q.ID)
			r.mu.Unlock()
		}
		if q.Async {
			background.Add(1)
			go func() { defer background.Done(); run() }()
		} else {
			run()
		}
	}
	r.mu.Lock()
	for _, cancel := range r.cancels {
		cancel()
	}
	r.mu.Unlock()
	background.Wait()
	for _, c := range r.clients {
		if c.client != nil {
			_ = c.client.Close()
		}
	}
}

// asError returns the error of the package in the error of a decoder, or an INVALID_ARGUMENT.
func asError(err error) error {
	var e *backprop.Error
	if errors.As(err, &e) {
		return e
	}
	return &backprop.Error{Code: codes.InvalidArgument, Message: err.Error()}
}
