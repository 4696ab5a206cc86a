package backprop

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// Retry says how calls that end with UNAVAILABLE are repeated. All attempts of a call have the same
// request id, so a change is made once. Before attempt i the client waits for a random time of at
// most FirstPause·2^(i−2) and LastPause, and at least for the time that an overloaded server asks
// for. The deadline of the call bounds attempts and pauses together.
type Retry struct {
	MaxAttempts int           // 1: no retries. 0: 8
	FirstPause  time.Duration // 0: 50 ms
	LastPause   time.Duration // 0: 1 s
}

func (r Retry) withDefaults() Retry {
	if r.MaxAttempts == 0 {
		r.MaxAttempts = 8
	}
	if r.FirstPause == 0 {
		r.FirstPause = 50 * time.Millisecond
	}
	if r.LastPause == 0 {
		r.LastPause = time.Second
	}
	return r
}

// maxRetryDelay bounds the time that a server can make a client wait before one attempt.
const maxRetryDelay = time.Minute

// attempts counts the attempts of one call.
type attempts struct {
	retry Retry
	made  int
}

// again returns whether to repeat the call after err, and waits first.
func (a *attempts) again(ctx context.Context, err *Error) bool {
	if err.Code != codes.Unavailable && !(err.Code == codes.ResourceExhausted && err.retryable) {
		return false
	}
	a.made++
	if a.made >= a.retry.MaxAttempts || ctx.Err() != nil {
		return false
	}
	limit := a.retry.LastPause
	if shift := a.made - 1; shift < 30 {
		limit = min(limit, a.retry.FirstPause<<shift)
	}
	pause := min(err.RetryDelay, maxRetryDelay) + time.Duration(mathrand.Int64N(int64(max(limit, 1))))
	if deadline, ok := ctx.Deadline(); ok && time.Now().Add(pause).After(deadline) {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// reset is called after progress: the next failure is the first again.
func (a *attempts) reset() { a.made = 0 }

// unary makes a call with retries, which send the same request. Without a deadline in ctx it has
// the client's.
func unary[Request, Response any](ctx context.Context, c *Client,
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error), request *Request) (*Response, error) {
	if _, given := ctx.Deadline(); !given && c.config.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.config.timeout)
		defer cancel()
	}
	a := attempts{retry: c.config.retry}
	for {
		response, err := method(ctx, request)
		if err == nil {
			return response, nil
		}
		e := errorOf(ctx, err)
		if !a.again(ctx, e) {
			return nil, orDone(ctx, e)
		}
	}
}

// orDone returns the error of the call, or that of the context if it ended during a pause.
func orDone(ctx context.Context, e *Error) error {
	if err := ctx.Err(); err != nil && e.Code == codes.Unavailable {
		return errorOf(ctx, err)
	}
	return e
}

// newRequestID returns 128 random bits.
func newRequestID() string {
	var bits [16]byte
	// Never fails on the systems that Go supports; it ends the program instead.
	_, _ = rand.Read(bits[:])
	return hex.EncodeToString(bits[:])
}

// resource returns the full name of a resource that is named with or without its collection.
func resource(collection, name string) string {
	if name == "" || strings.HasPrefix(name, collection) {
		return name
	}
	return collection + name
}

// modelName checks the name of a model.
func modelName(wrong *violations, field, model string) string {
	return checkedName(wrong, field, "models/", model)
}

func checkedName(wrong *violations, field, collection, name string) string {
	full := resource(collection, name)
	if len(full) <= len(collection) {
		wrong.add(field, "must be %s{id}, got %q", collection, name)
	}
	return full
}

// checkpointName returns models/{id}/checkpoints/{id} for a checkpoint of a model; checkpoint is an
// id or the full name.
func checkpointName(wrong *violations, model, checkpoint string) string {
	if strings.HasPrefix(checkpoint, "models/") {
		return checkpoint
	}
	name := modelName(wrong, "model", model)
	if checkpoint == "" {
		wrong.add("name", "must be models/{id}/checkpoints/{id}, got no id")
	}
	return name + "/checkpoints/" + checkpoint
}
