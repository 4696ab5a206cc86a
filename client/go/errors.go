package backprop

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A FieldViolation is a field of a request that was rejected, and why.
type FieldViolation struct {
	Field       string // "spec.layers[0].units", as in the contract
	Description string // "must be at least 1, got 0"
}

// Error is the error of every call. Get it with [errors.As]:
//
//	var e *backprop.Error
//	if errors.As(err, &e) && e.Code == codes.InvalidArgument { … e.Violations … }
//
// [errors.Is] finds [context.Canceled] and [context.DeadlineExceeded] in the errors of calls that
// ended so, and [status.Code] returns the code. Errors of the caller's own functions, such as the
// function of [OnEvent], are returned as they are.
type Error struct {
	Code       codes.Code
	Message    string
	Violations []FieldViolation  // with InvalidArgument
	Reason     string            // such as "RUN_UNDER_WAY"; docs/api.md lists them; may be empty
	Metadata   map[string]string // details of the reason, such as "run"
	// RetryDelay is the time that the server asks to wait before a retry; 0: it does not ask.
	RetryDelay time.Duration

	retryable bool // the error has a RetryInfo
	proto     *spb.Status
}

// Error returns "INVALID_ARGUMENT: spec.layers[0].units: must be at least 1, got 0".
func (e *Error) Error() string {
	var text strings.Builder
	text.WriteString(CodeName(e.Code))
	text.WriteString(": ")
	text.WriteString(e.Message)
	if e.Reason != "" {
		fmt.Fprintf(&text, " (%s)", e.Reason)
	}
	return text.String()
}

// Unwrap returns [context.Canceled] or [context.DeadlineExceeded] for the codes of these names.
func (e *Error) Unwrap() error {
	switch e.Code {
	case codes.Canceled:
		return context.Canceled
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	}
	return nil
}

// GRPCStatus makes the error usable with [status.FromError], [status.Convert] and [status.Code].
func (e *Error) GRPCStatus() *status.Status {
	if e.proto != nil {
		return status.FromProto(e.proto)
	}
	return status.New(e.Code, e.Message)
}

// CurrentStep returns the step count of the model, if the error says that it is not the expected
// one (ABORTED, STEP_MISMATCH).
func (e *Error) CurrentStep() (int64, bool) {
	step, err := strconv.ParseInt(e.Metadata["current_step"], 10, 64)
	return step, err == nil && e.Reason == "STEP_MISMATCH"
}

// CodeName returns the name of a code in the contract: "INVALID_ARGUMENT".
func CodeName(c codes.Code) string {
	if c <= codes.Unauthenticated {
		return code.Code(int32(c)).String()
	}
	return fmt.Sprintf("CODE_%d", uint32(c))
}

// errorOf converts the error of a call. ctx is the context that the caller gave: a call that ended
// with CANCELLED although the caller did not cancel it was cancelled by a server that stops, which
// is UNAVAILABLE.
func errorOf(ctx context.Context, err error) *Error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	s := status.Convert(err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		s = status.New(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, context.Canceled):
		s = status.New(codes.Canceled, err.Error())
	}
	e := errorOfStatus(s.Proto())
	if e.Code == codes.Canceled && ctx.Err() == nil {
		e = errorOfStatus(&spb.Status{Code: int32(codes.Unavailable), Message: "the server cancelled the call"})
	}
	return e
}

// errorOfStatus decodes the details of a google.rpc.Status.
func errorOfStatus(s *spb.Status) *Error {
	e := &Error{Code: codes.Code(s.GetCode()), Message: s.GetMessage(), proto: s}
	for _, detail := range status.FromProto(s).Details() {
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			for _, v := range detail.GetFieldViolations() {
				e.Violations = append(e.Violations, FieldViolation{v.GetField(), v.GetDescription()})
			}
		case *errdetails.ErrorInfo:
			e.Reason = detail.GetReason()
			e.Metadata = detail.GetMetadata()
		case *errdetails.RetryInfo:
			e.retryable = true
			e.RetryDelay = max(0, detail.GetRetryDelay().AsDuration())
		}
	}
	return e
}

// A violations collects what is wrong with a request before it is sent.
type violations []FieldViolation

func (v *violations) add(field, format string, args ...any) {
	*v = append(*v, FieldViolation{field, fmt.Sprintf(format, args...)})
}

// err returns the error that the server would return, or nil.
func (v violations) err() error {
	if len(v) == 0 {
		return nil
	}
	message := v[0].Field + ": " + v[0].Description
	if len(v) > 1 {
		message += fmt.Sprintf(" (and %d more)", len(v)-1)
	}
	return &Error{Code: codes.InvalidArgument, Message: message, Violations: v}
}

// failed returns an Error of the client's own.
func failed(c codes.Code, reason, format string, args ...any) *Error {
	return &Error{Code: c, Reason: reason, Message: fmt.Sprintf(format, args...)}
}
