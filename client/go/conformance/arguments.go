package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"time"

	backprop "backprop.dev/go"
)

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// arguments are those of all operations.
type arguments struct {
	// connect
	Address, CA, Cert, Key, Token, As string
	TokenFile                         string `json:"token_file"`
	Retry                             *struct {
		MaxAttempts  int   `json:"max_attempts"`
		FirstPauseMs int64 `json:"first_pause_ms"`
		LastPauseMs  int64 `json:"last_pause_ms"`
	}

	Client       string
	Model        string
	ModelID      string          `json:"model_id"`
	Spec         json.RawMessage // read with the call, so that its error is that of the call
	Labels       json.RawMessage // an array, or the labels of a model
	RequestID    string          `json:"request_id"`
	TimeoutMs    int64           `json:"timeout_ms"`
	ExpectedStep *int64          `json:"expected_step"`
	Inputs       array
	Targets      array
	Dataset      string
	PageSize     int    `json:"page_size"`
	ToFile       string `json:"to_file"`
	Path         string
	Target       int64

	// train, watch
	Iterations, Epochs int64
	BatchSize          int32 `json:"batch_size"`
	ReportEvery        int64 `json:"report_every"`
	Detach             bool
	CancelAfterEvents  int `json:"cancel_after_events"`
	Run                string
	FromSequence       int64 `json:"from_sequence"`

	// steps
	Batches  []rowsOf
	InFlight int `json:"in_flight"`

	Tensors    map[string]array
	Checkpoint string
	ChunkRows  int `json:"chunk_rows"`
}

type rowsOf struct {
	Inputs, Targets array
	Labels          labels
}

// labels are class indices: a list of numbers, or an array.
type labels []int32

func (l *labels) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '[' {
		return json.Unmarshal(text, (*[]int32)(l))
	}
	var a array
	if err := json.Unmarshal(text, &a); err != nil {
		return err
	}
	classes, err := a.classes()
	*l = classes
	return err
}

// An array is numbers, in base64 or in a file.
type array struct {
	Shape  []int
	DType  string
	Base64 string
	File   string
}

func (a array) raw() ([]byte, error) {
	if a.File != "" {
		return os.ReadFile(a.File)
	}
	return base64.StdEncoding.DecodeString(a.Base64)
}

func (a array) tensor() (backprop.Tensor, error) {
	if a.DType == "" {
		return backprop.Tensor{}, nil
	}
	raw, err := a.raw()
	if err != nil {
		return backprop.Tensor{}, err
	}
	switch a.DType {
	case "float32":
		return backprop.TensorOfBytes(raw, backprop.Float32, a.Shape...), nil
	case "float64":
		return backprop.TensorOfBytes(raw, backprop.Float64, a.Shape...), nil
	}
	return backprop.Tensor{}, fmt.Errorf("an array of %s", a.DType)
}

// classes returns the class indices of an array of any type.
func (a array) classes() ([]int32, error) {
	if a.DType == "" {
		return nil, nil
	}
	raw, err := a.raw()
	if err != nil {
		return nil, err
	}
	switch a.DType {
	case "int32":
		out := make([]int32, len(raw)/4)
		_, err = binary.Decode(raw, binary.LittleEndian, out)
		return out, err
	case "int64":
		wide := make([]int64, len(raw)/8)
		out := make([]int32, len(wide))
		_, err = binary.Decode(raw, binary.LittleEndian, wide)
		for i, n := range wide {
			out[i] = int32(n)
		}
		return out, err
	}
	t, err := a.tensor()
	if err != nil {
		return nil, err
	}
	out := make([]int32, 0, t.Len())
	for _, n := range t.Float64s() {
		out = append(out, int32(n))
	}
	return out, nil
}

func (r rowsOf) batch() (b backprop.Batch, err error) {
	if b.Inputs, err = r.Inputs.tensor(); err != nil {
		return b, err
	}
	if b.Targets, err = r.Targets.tensor(); err != nil {
		return b, err
	}
	b.Labels = r.Labels
	return b, nil
}

func (a *arguments) batch() (backprop.Batch, error) {
	var indices labels
	if len(a.Labels) > 0 {
		if err := json.Unmarshal(a.Labels, &indices); err != nil {
			return backprop.Batch{}, err
		}
	}
	return rowsOf{a.Inputs, a.Targets, indices}.batch()
}

// reply returns a tensor as the array of a reply: in base64, or in a file.
func reply(t backprop.Tensor, file string) (object, error) {
	out := object{"shape": t.Shape(), "dtype": t.Type().String()}
	if file == "" {
		out["base64"] = base64.StdEncoding.EncodeToString(t.Bytes())
		return out, nil
	}
	out["file"] = file
	return out, os.WriteFile(file, t.Bytes(), 0o600)
}

// namedReply returns tensors by name. Files have a number each.
func namedReply(tensors []backprop.NamedTensor, file string) (object, error) {
	out := object{}
	for i, t := range tensors {
		name := file
		if file != "" {
			name = fmt.Sprintf("%s.%d", file, i)
		}
		one, err := reply(t.Tensor, name)
		if err != nil {
			return nil, err
		}
		out[t.Name] = one
	}
	return out, nil
}

func (a *arguments) named() ([]backprop.NamedTensor, error) {
	var out []backprop.NamedTensor
	for name, one := range a.Tensors {
		t, err := one.tensor()
		if err != nil {
			return nil, err
		}
		out = append(out, backprop.NamedTensor{Name: name, Tensor: t})
	}
	return out, nil
}
