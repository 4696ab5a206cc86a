package backprop

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unsafe"

	pb "backprop.dev/go/backprop/v1"
)

// DataType is the precision of a model and of the numbers of a tensor.
type DataType int32

// The precisions. For a model, the zero value is Float32.
const (
	Float32 = DataType(pb.DataType_DATA_TYPE_FLOAT32)
	Float64 = DataType(pb.DataType_DATA_TYPE_FLOAT64)
)

// String returns "float32" or "float64".
func (t DataType) String() string { return enumName(pb.DataType(t), "DATA_TYPE_") }

// bytes returns the size of a number.
func (t DataType) bytes() int {
	if t == Float64 {
		return 8
	}
	return 4
}

// A Tensor is a row-major array of float32 or float64 numbers with one or two dimensions. The zero
// value is no tensor. A Tensor is a small value that refers to its numbers, as a slice does.
type Tensor struct {
	shape []int
	dtype DataType
	raw   []byte // little-endian
}

// littleEndian says whether numbers in memory are the bytes of the contract.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// NewTensor makes a tensor of numbers in row-major order. Without a shape it is a vector. The shape
// is checked when the tensor is sent: a call with a wrong one fails with INVALID_ARGUMENT.
//
// On little-endian machines the tensor shares the memory of values: do not change them before the
// calls that use the tensor have returned.
func NewTensor[T float32 | float64](values []T, shape ...int) Tensor {
	t := Tensor{shape: slices.Clone(shape), dtype: typeOf[T](), raw: toBytes(values)}
	if len(shape) == 0 {
		t.shape = []int{len(values)}
	}
	return t
}

// FromRows makes a matrix and copies the rows into it. It panics if their lengths differ.
func FromRows[T float32 | float64](rows [][]T) Tensor {
	if len(rows) == 0 {
		return Tensor{}
	}
	columns := len(rows[0])
	values := make([]T, 0, len(rows)*columns)
	for i, row := range rows {
		if len(row) != columns {
			panic(fmt.Sprintf("backprop: row %d has %d numbers, row 0 has %d", i, len(row), columns))
		}
		values = append(values, row...)
	}
	return NewTensor(values, len(rows), columns)
}

// TensorOfBytes makes a tensor of little-endian numbers. It shares the memory of raw.
func TensorOfBytes(raw []byte, dtype DataType, shape ...int) Tensor {
	return Tensor{shape: slices.Clone(shape), dtype: dtype, raw: raw}
}

// Shape returns the dimensions. Do not change the slice.
func (t Tensor) Shape() []int { return t.shape }

// Type returns the type of the numbers.
func (t Tensor) Type() DataType { return t.dtype }

// Bytes returns the numbers as little-endian bytes: the memory of the tensor, not a copy.
func (t Tensor) Bytes() []byte { return t.raw }

// IsZero returns whether this is no tensor.
func (t Tensor) IsZero() bool { return len(t.raw) == 0 && len(t.shape) == 0 }

// Len returns the number of numbers.
func (t Tensor) Len() int { return len(t.raw) / t.dtype.bytes() }

// rows returns the outermost dimension; 0 for no tensor.
func (t Tensor) rows() int {
	if len(t.shape) == 0 {
		return 0
	}
	return t.shape[0]
}

// Float32s returns the numbers in row-major order. On little-endian machines the numbers of a
// float32 tensor are not copied; those of a float64 tensor are converted.
func (t Tensor) Float32s() []float32 { return numbers[float32](t) }

// Float64s returns the numbers in row-major order. On little-endian machines the numbers of a
// float64 tensor are not copied; those of a float32 tensor are converted, exactly.
func (t Tensor) Float64s() []float64 { return numbers[float64](t) }

// Row returns one row of a matrix as float64. It panics if there is no such row.
func (t Tensor) Row(i int) []float64 {
	width := len(t.raw) / t.shape[0]
	return TensorOfBytes(t.raw[i*width:(i+1)*width], t.dtype).Float64s()
}

// slice returns rows [first, last), which share the memory. The shape must be right.
func (t Tensor) slice(first, last int) Tensor {
	if t.IsZero() {
		return t
	}
	width := len(t.raw) / t.shape[0]
	shape := slices.Clone(t.shape)
	shape[0] = last - first
	return Tensor{shape: shape, dtype: t.dtype, raw: t.raw[first*width : last*width]}
}

// check adds a violation if the shape and the number of numbers differ.
func (t Tensor) check(wrong *violations, field string) {
	if t.IsZero() {
		return
	}
	if t.dtype != Float32 && t.dtype != Float64 {
		wrong.add(field+".data_type", "must be float32 or float64, got %s", t.dtype)
		return
	}
	product := 1
	for _, n := range t.shape {
		if n < 1 || n > math.MaxInt32 || product > math.MaxInt/n {
			wrong.add(field+".shape", "dimensions must be from 1 to %d, got %v", math.MaxInt32, t.shape)
			return
		}
		product *= n
	}
	if product*t.dtype.bytes() != len(t.raw) {
		wrong.add(field+".shape", "%v has %d numbers, but %d were given", t.shape, product, t.Len())
	}
}

func (t Tensor) proto() *pb.Tensor {
	if t.IsZero() {
		return nil
	}
	return &pb.Tensor{Shape: shapeProto(t.shape), Raw: t.raw, DataType: pb.DataType(t.dtype),
		ByteOrder: pb.ByteOrder_BYTE_ORDER_LITTLE_ENDIAN}
}

func shapeProto(shape []int) []int32 {
	out := make([]int32, len(shape))
	for i, n := range shape {
		out[i] = int32(n)
	}
	return out
}

// tensorOf decodes a tensor of a response. It shares the memory of the message.
func tensorOf(m *pb.Tensor) Tensor {
	if m == nil {
		return Tensor{}
	}
	t := Tensor{dtype: DataType(m.GetDataType()), raw: m.GetRaw()}
	for _, n := range m.GetShape() {
		t.shape = append(t.shape, int(n))
	}
	if len(m.GetValues()) > 0 {
		t.dtype, t.raw = Float64, toBytes(m.GetValues())
	}
	return t
}

func typeOf[T float32 | float64]() DataType {
	var zero T
	if unsafe.Sizeof(zero) == 8 {
		return Float64
	}
	return Float32
}

// toBytes returns values as little-endian bytes: the same memory where the machine allows it.
func toBytes[T float32 | float64 | int32](values []T) []byte {
	if len(values) == 0 {
		return nil
	}
	if littleEndian {
		return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(values[0])))
	}
	return encode(values)
}

// encode is toBytes for machines of any byte order.
func encode[T float32 | float64 | int32](values []T) []byte {
	raw, err := binary.Append(nil, binary.LittleEndian, values)
	if err != nil {
		panic(err) // numbers of a fixed size never fail
	}
	return raw
}

// numbers returns the numbers of a tensor, without a copy where the type, the byte order and the
// alignment of the bytes allow it.
func numbers[T float32 | float64](t Tensor) []T {
	n := t.Len()
	if n == 0 {
		return nil
	}
	data := unsafe.Pointer(unsafe.SliceData(t.raw))
	if littleEndian && t.dtype == typeOf[T]() && uintptr(data)%unsafe.Alignof(T(0)) == 0 {
		return unsafe.Slice((*T)(data), n)
	}
	return decode[T](t)
}

// decode is numbers for machines of any byte order.
func decode[T float32 | float64](t Tensor) []T {
	out := make([]T, t.Len())
	for i := range out {
		if t.dtype == Float64 {
			out[i] = T(math.Float64frombits(binary.LittleEndian.Uint64(t.raw[8*i:])))
		} else {
			out[i] = T(math.Float32frombits(binary.LittleEndian.Uint32(t.raw[4*i:])))
		}
	}
	return out
}

// A NamedTensor is the weights or the bias of a layer, its gradient, or a slot of the optimiser.
type NamedTensor struct {
	Name   string // "layers[0].weights", "layers[0].bias"
	Tensor Tensor // weights (inputs, units); bias (units)
}

func namedProto(wrong *violations, field string, tensors []NamedTensor) []*pb.NamedTensor {
	out := make([]*pb.NamedTensor, len(tensors))
	for i, t := range tensors {
		t.Tensor.check(wrong, fmt.Sprintf("%s[%d].tensor", field, i))
		out[i] = &pb.NamedTensor{Name: t.Name, Tensor: t.Tensor.proto()}
	}
	return out
}

func namedOf(tensors []*pb.NamedTensor) []NamedTensor {
	out := make([]NamedTensor, len(tensors))
	for i, t := range tensors {
		out[i] = NamedTensor{t.GetName(), tensorOf(t.GetTensor())}
	}
	return out
}

// A Batch is n rows of data. Exactly one of Labels, LabelNames and Targets must be set.
type Batch struct {
	Inputs        Tensor    // (n, d)
	Labels        []int32   // n class indices
	LabelNames    []string  // n class names, of the model's ClassNames
	Targets       Tensor    // (n, k)
	SampleWeights []float64 // n numbers ≥ 0; empty: all 1
}

// Rows is what a model is trained or evaluated on: a [Batch], or a [StoredDataset] of the server.
type Rows interface{ rowsOf() (*Batch, string) }

// StoredDataset names rows of [Client.UploadDataset]: "datasets/{id}" or "{id}".
type StoredDataset string

func (b Batch) rowsOf() (*Batch, string)         { return &b, "" }
func (d StoredDataset) rowsOf() (*Batch, string) { return nil, resource("datasets/", string(d)) }

// Slice returns rows [first, last), which share the memory of the batch.
func (b Batch) Slice(first, last int) Batch {
	out := Batch{Inputs: b.Inputs.slice(first, last), Targets: b.Targets.slice(first, last)}
	if len(b.Labels) > 0 {
		out.Labels = b.Labels[first:last]
	}
	if len(b.LabelNames) > 0 {
		out.LabelNames = b.LabelNames[first:last]
	}
	if len(b.SampleWeights) > 0 {
		out.SampleWeights = b.SampleWeights[first:last]
	}
	return out
}

// Len returns the number of rows.
func (b Batch) Len() int { return b.Inputs.rows() }

func (b Batch) proto(wrong *violations, field string) *pb.Batch {
	b.Inputs.check(wrong, field+".inputs")
	b.Targets.check(wrong, field+".targets")
	out := &pb.Batch{Inputs: b.Inputs.proto(), Targets: b.Targets.proto(), LabelNames: b.LabelNames}
	if len(b.Labels) > 0 {
		out.Labels = &pb.Tensor{Shape: []int32{int32(len(b.Labels))}, Raw: toBytes(b.Labels),
			DataType: pb.DataType_DATA_TYPE_INT32, ByteOrder: pb.ByteOrder_BYTE_ORDER_LITTLE_ENDIAN}
	}
	if len(b.SampleWeights) > 0 {
		out.SampleWeights = NewTensor(b.SampleWeights).proto()
	}
	return out
}
