package backprop

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	pb "backprop.dev/go/backprop/v1"
	"google.golang.org/grpc/codes"
)

// A Dataset is rows on the server.
type Dataset struct {
	Name             string // datasets/{id}
	Ready            bool   // false: the upload is not complete
	Rows             int64
	InputSize        int
	TargetSize       int // 0: rows have classes
	HasSampleWeights bool
	DataType         DataType
	ClassNames       []string
	FeatureNames     []string
	Labels           map[string]string
	CreateTime       time.Time
	SizeBytes        int64
}

func datasetOf(m *pb.Dataset) *Dataset {
	return &Dataset{Name: m.GetName(), Ready: m.GetState() == pb.DatasetState_DATASET_STATE_READY, Rows: m.GetRows(),
		InputSize: int(m.GetInputSize()), TargetSize: int(m.GetTargetSize()), HasSampleWeights: m.GetHasSampleWeights(),
		DataType: DataType(m.GetDataType()), ClassNames: m.GetClassNames(), FeatureNames: m.GetFeatureNames(),
		Labels: m.GetLabels(), CreateTime: m.GetCreateTime().AsTime(), SizeBytes: m.GetSizeBytes()}
}

// chunkBytes is the size of the rows of a message, unless [ChunkRows] is given.
const chunkBytes = 1 << 20

// A RowSource returns some rows of a dataset, from row first on; [io.EOF] after the last row. After
// a broken connection it is called again from the first row that the server does not have. The rows
// of a call must fit into a message of the server (64 MiB by default).
type RowSource func(first int64) (Batch, error)

// UploadDataset stores rows under an id, in chunks with checksums. If the connection breaks or the
// server restarts, it resumes after the rows that the server has. Options: [Precision], [Labels],
// [FeatureNames], [ChunkRows], [OnUpload], [RequestID].
func (c *Client) UploadDataset(ctx context.Context, id string, rows Batch, options ...UploadOption) (*Dataset, error) {
	var wrong violations
	rows.proto(&wrong, "chunk.rows")
	if n := rows.Len(); n < 1 || len(rows.Labels) > 0 && len(rows.Labels) != n ||
		len(rows.LabelNames) > 0 && len(rows.LabelNames) != n || !rows.Targets.IsZero() && rows.Targets.rows() != n ||
		len(rows.SampleWeights) > 0 && len(rows.SampleWeights) != n {
		// They are cut into chunks here, so they must have the same length.
		wrong.add("chunk.rows", "inputs, labels or targets, and sample_weights must have the same number of rows, "+
			"at least 1")
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	n := rows.Len()
	perRow := (len(rows.Inputs.raw)+len(rows.Targets.raw))/n + 16
	config := uploadOptions(options)
	chunk := config.chunkRows
	if chunk < 1 {
		chunk = max(1, chunkBytes/perRow)
	}
	return c.upload(ctx, id, func(first int64) (Batch, error) {
		if first >= int64(n) {
			return Batch{}, io.EOF
		}
		return rows.Slice(int(first), min(n, int(first)+chunk)), nil
	}, config)
}

// UploadRows is [Client.UploadDataset] for rows that need not be in memory at once. ChunkRows has
// no effect.
func (c *Client) UploadRows(ctx context.Context, id string, source RowSource, options ...UploadOption) (*Dataset, error) {
	return c.upload(ctx, id, source, uploadOptions(options))
}

func uploadOptions(options []UploadOption) (config uploadConfig) {
	for _, option := range options {
		option.upload(&config)
	}
	return config
}

func (c *Client) upload(ctx context.Context, id string, source RowSource, config uploadConfig) (*Dataset, error) {
	var wrong violations
	name := checkedName(&wrong, "header.dataset_id", "datasets/", id)
	checkEnum(&wrong, "header.data_type", pb.DataType(config.dataType))
	if err := wrong.err(); err != nil {
		return nil, err
	}
	u := upload{client: c, source: source, config: config, header: &pb.DatasetHeader{
		DatasetId: strings.TrimPrefix(name, "datasets/"), DataType: pb.DataType(config.dataType), Labels: config.labels,
		FeatureNames: config.featureNames, RequestId: config.id()}}
	a := attempts{retry: c.config.retry}
	for {
		dataset, failure, err := u.attempt(ctx)
		if dataset != nil || err != nil {
			return dataset, err
		}
		known := u.known
		if row, ok := failure.expectedRow(); ok && a.made+1 < a.retry.MaxAttempts {
			a.made++ // the server has fewer rows than this client believed
			u.known = row
			continue
		}
		if !a.again(ctx, failure) {
			return nil, orDone(ctx, failure)
		}
		there, err := c.GetDataset(ctx, name)
		var e *Error
		switch {
		case err == nil:
			u.known = there.Rows
		case errors.As(err, &e) && e.Code == codes.NotFound:
			u.known = 0
		default:
			return nil, err
		}
		if u.known > known {
			a.reset()
		}
	}
}

// expectedRow returns the row from which the server wants an upload to continue.
func (e *Error) expectedRow() (int64, bool) {
	row, err := strconv.ParseInt(e.Metadata["expected_row"], 10, 64)
	return row, err == nil && e.Reason == "ROWS_MISSING"
}

// An upload is the state of UploadDataset over all its connections.
type upload struct {
	client *Client
	source RowSource
	config uploadConfig
	header *pb.DatasetHeader
	known  int64 // rows that the server has
}

// attempt sends the rows that the server does not have. It returns the dataset, or the error of the
// call, or that of the source.
func (u *upload) attempt(ctx context.Context) (*Dataset, *Error, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := u.client.rpc.UploadDataset(call)
	if err != nil {
		return nil, errorOf(ctx, err), nil
	}
	open := stream.Send(&pb.UploadDatasetRequest{Part: &pb.UploadDatasetRequest_Header{Header: u.header}}) == nil
	for sent := u.known; open; {
		rows, err := u.source(sent)
		if errors.Is(err, io.EOF) {
			_ = stream.Send(&pb.UploadDatasetRequest{Part: &pb.UploadDatasetRequest_Commit{
				Commit: &pb.DatasetCommit{Rows: sent}}})
			break
		}
		if err != nil {
			return nil, nil, err
		}
		var wrong violations
		chunk := &pb.DatasetChunk{FirstRow: sent, Rows: rows.proto(&wrong, "chunk.rows")}
		if rows.Len() == 0 {
			wrong.add("chunk.rows", "has no rows")
		}
		if err := wrong.err(); err != nil {
			return nil, nil, err
		}
		if len(rows.LabelNames) == 0 { // the server assigns the indices of class names
			crc := checksum(rows, u.config.dataType)
			chunk.Crc32 = &crc
		}
		open = stream.Send(&pb.UploadDatasetRequest{Part: &pb.UploadDatasetRequest_Chunk{Chunk: chunk}}) == nil
		sent += int64(rows.Len())
		if open && u.config.onProgress != nil {
			u.config.onProgress(sent)
		}
	}
	response, err := stream.CloseAndRecv()
	if err != nil {
		return nil, errorOf(ctx, err), nil
	}
	dataset := datasetOf(response.GetDataset())
	if !dataset.Ready { // the connection broke before the commit was sent
		return nil, failed(codes.Unavailable, "", "the upload ended after %d rows", dataset.Rows), nil
	}
	return dataset, nil, nil
}

// checksum returns the CRC-32 of rows as the server stores them.
func checksum(rows Batch, stored DataType) uint32 {
	crc := add(0, rows.Inputs, stored)
	crc = crc32.Update(crc, crc32.IEEETable, toBytes(rows.Labels))
	crc = add(crc, rows.Targets, stored)
	return add(crc, NewTensor(rows.SampleWeights), stored)
}

func add(crc uint32, t Tensor, stored DataType) uint32 {
	raw := t.raw
	switch {
	case len(raw) == 0:
		return crc
	case stored == Float64 && t.dtype != Float64:
		raw = toBytes(t.Float64s())
	case stored != Float64 && t.dtype == Float64:
		raw = toBytes(t.Float32s())
	}
	return crc32.Update(crc, crc32.IEEETable, raw)
}

// GetDataset returns a dataset as it is now.
func (c *Client) GetDataset(ctx context.Context, dataset string) (*Dataset, error) {
	var wrong violations
	request := &pb.GetDatasetRequest{Name: checkedName(&wrong, "name", "datasets/", dataset)}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	response, err := unary(ctx, c, c.rpc.GetDataset, request)
	if err != nil {
		return nil, err
	}
	return datasetOf(response.GetDataset()), nil
}

// ListDatasets yields the datasets in order of name. An error is the last element.
func (c *Client) ListDatasets(ctx context.Context) iter.Seq2[*Dataset, error] {
	return pages(func(token string) ([]*pb.Dataset, string, error) {
		response, err := unary(ctx, c, c.rpc.ListDatasets, &pb.ListDatasetsRequest{PageToken: token})
		return response.GetDatasets(), response.GetNextPageToken(), err
	}, datasetOf)
}

// DeleteDataset deletes a dataset that no run uses. Options: [RequestID].
func (c *Client) DeleteDataset(ctx context.Context, dataset string, options ...ChangeOption) error {
	var wrong violations
	request := &pb.DeleteDatasetRequest{Name: checkedName(&wrong, "name", "datasets/", dataset),
		RequestId: changeID(options)}
	if err := wrong.err(); err != nil {
		return err
	}
	_, err := unary(ctx, c, c.rpc.DeleteDataset, request)
	return err
}
