package backprop

import (
	"context"
	"errors"
	"io"

	pb "backprop.dev/go/backprop/v1"
	"google.golang.org/grpc"
)

// pieceBytes is the size of the pieces in which files are sent.
const pieceBytes = 1 << 20

// A rewinder is a destination of a file that can be written again from where it started, such as an
// *os.File.
type rewinder interface {
	io.Seeker
	Truncate(size int64) error
}

// download writes the bytes of a stream to w and returns their number. A broken stream starts
// again if nothing was written, or if w is an *os.File or another rewinder.
func download[R interface{ GetData() []byte }](ctx context.Context, c *Client, w io.Writer,
	open func(context.Context) (interface{ Recv() (R, error) }, error)) (int64, error) {
	a := attempts{retry: c.config.retry}
	back, start := startOf(w)
	for {
		written, failure, err := receiveFile(ctx, w, open)
		if failure == nil {
			return written, err
		}
		if written > 0 && back == nil || !a.again(ctx, failure) {
			return written, orDone(ctx, failure)
		}
		if written > 0 {
			if _, err := back.Seek(start, io.SeekStart); err != nil {
				return written, err
			}
			if err := back.Truncate(start); err != nil {
				return written, err
			}
		}
	}
}

// startOf returns w as a rewinder, and its position; nil if it cannot be written again.
func startOf(w io.Writer) (rewinder, int64) {
	back, ok := w.(rewinder)
	if !ok {
		return nil, 0
	}
	start, err := back.Seek(0, io.SeekCurrent)
	if err != nil { // a pipe
		return nil, 0
	}
	return back, start
}

// receiveFile makes one attempt. It returns the error of the call, or that of w.
func receiveFile[R interface{ GetData() []byte }](ctx context.Context, w io.Writer,
	open func(context.Context) (interface{ Recv() (R, error) }, error)) (written int64, failure *Error, err error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := open(call)
	if err != nil {
		return 0, errorOf(ctx, err), nil
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return written, nil, nil
		}
		if err != nil {
			return written, errorOf(ctx, err), nil
		}
		n, err := w.Write(m.GetData())
		written += int64(n)
		if err != nil {
			return written, nil, err
		}
	}
}

// sendFile sends the bytes of r, the first with the message first. It returns the response, the
// error of the call, or that of r.
func sendFile[Request, Response any](ctx context.Context, r io.Reader,
	open func(context.Context, ...grpc.CallOption) (grpc.ClientStreamingClient[Request, Response], error),
	piece func(data []byte, first bool) *Request) (*Response, *Error, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := open(call)
	if err != nil {
		return nil, errorOf(ctx, err), nil
	}
	buffer := make([]byte, pieceBytes)
	for first := true; ; first = false {
		n, err := io.ReadFull(r, buffer)
		atEnd := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !atEnd {
			return nil, nil, err
		}
		if (n > 0 || first) && stream.Send(piece(buffer[:n], first)) != nil || atEnd {
			break // the reason of a failure is in the response
		}
	}
	response, err := stream.CloseAndRecv()
	if err != nil {
		return nil, errorOf(ctx, err), nil
	}
	return response, nil, nil
}

// ExportModel writes a model to w as a file that ImportModel reads, and returns its size. A broken
// stream is repeated if w is an *os.File, which is then truncated to where it was, or if nothing
// was written yet.
func (c *Client) ExportModel(ctx context.Context, model string, w io.Writer) (int64, error) {
	var wrong violations
	request := &pb.ExportModelRequest{Model: modelName(&wrong, "model", model)}
	if err := wrong.err(); err != nil {
		return 0, err
	}
	return download(ctx, c, w, func(ctx context.Context) (interface {
		Recv() (*pb.ExportModelResponse, error)
	}, error) {
		return c.rpc.ExportModel(ctx, request)
	})
}

// ImportModel creates a model from a file of [Client.ExportModel]. The call is repeated, with the
// same request id, if r is an [io.Seeker], such as an *os.File or a *bytes.Reader. Options:
// [ModelID], a [Durability], [RequestID].
func (c *Client) ImportModel(ctx context.Context, r io.Reader, options ...ImportOption) (*Model, error) {
	var config importConfig
	for _, option := range options {
		option.importing(&config)
	}
	var wrong violations
	checkEnum(&wrong, "durability", pb.Durability(config.durability))
	if err := wrong.err(); err != nil {
		return nil, err
	}
	id := config.changeConfig.id()
	seeker, start, err := readerStart(r)
	if err != nil {
		return nil, err
	}
	a := attempts{retry: c.config.retry}
	for {
		response, failure, err := sendFile(ctx, r, c.rpc.ImportModel, func(data []byte, first bool) *pb.ImportModelRequest {
			if !first {
				return &pb.ImportModelRequest{Data: data}
			}
			return &pb.ImportModelRequest{ModelId: config.id, RequestId: id, Data: data,
				Durability: pb.Durability(config.durability)}
		})
		if err != nil {
			return nil, err
		}
		if failure == nil {
			return modelOf(response.GetModel()), nil
		}
		if seeker == nil || !a.again(ctx, failure) {
			return nil, orDone(ctx, failure)
		}
		if _, err := seeker.Seek(start, io.SeekStart); err != nil {
			return nil, err
		}
	}
}

// readerStart returns r as a seeker, and its position; nil if it can be read only once.
func readerStart(r io.Reader) (io.Seeker, int64, error) {
	seeker, ok := r.(io.Seeker)
	if !ok {
		return nil, 0, nil
	}
	start, err := seeker.Seek(0, io.SeekCurrent)
	if err != nil { // a pipe
		return nil, 0, nil
	}
	return seeker, start, nil
}

// CreateBackup writes everything that the server stores, or that of one project ("" for all), to w,
// and returns the size. A broken stream is repeated as in [Client.ExportModel].
func (c *Client) CreateBackup(ctx context.Context, project string, w io.Writer) (int64, error) {
	request := &pb.CreateBackupRequest{Project: resource("projects/", project)}
	return download(ctx, c, w, func(ctx context.Context) (interface {
		Recv() (*pb.CreateBackupResponse, error)
	}, error) {
		return c.admin.CreateBackup(ctx, request)
	})
}

// A RestoredBackup counts what was restored.
type RestoredBackup struct {
	Models int64
	Runs   int64 // that resume
}

// RestoreBackup restores a backup into an empty server. It is not repeated: after UNAVAILABLE, the
// server is either empty or restored.
func (c *Client) RestoreBackup(ctx context.Context, r io.Reader) (*RestoredBackup, error) {
	response, failure, err := sendFile(ctx, r, c.admin.RestoreBackup, func(data []byte, _ bool) *pb.RestoreBackupRequest {
		return &pb.RestoreBackupRequest{Data: data}
	})
	if err != nil {
		return nil, err
	}
	if failure != nil {
		return nil, failure
	}
	return &RestoredBackup{response.GetModels(), response.GetRuns()}, nil
}
