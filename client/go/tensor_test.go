package backprop

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

func TestTensorsShareTheMemoryOfSlices(t *testing.T) {
	if !littleEndian {
		t.Log("this machine is big-endian: tensors are copies")
		return
	}
	values := []float32{1, 2, 3, 4}
	tensor := NewTensor(values, 2, 2)
	values[3] = 5
	if got := tensor.Float32s(); got[3] != 5 || &got[0] != &values[0] {
		t.Errorf("got %v at another address", got)
	}
	if row := tensor.slice(1, 2); unsafe.SliceData(row.raw) != (*byte)(unsafe.Pointer(&values[2])) {
		t.Error("a slice of rows is a copy")
	}
}

// The conversions for big-endian machines give the same bytes and numbers as the shared memory.
func TestConversionEqualsSharedMemory(t *testing.T) {
	values := []float64{0, -1.5, math.Pi, math.SmallestNonzeroFloat64, math.MaxFloat64}
	if !bytes.Equal(encode(values), []byte(
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf8\xbf\x18-DT\xfb!\t@"+
			"\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xef\x7f")) {
		t.Errorf("encode: % x", encode(values))
	}
	tensor := TensorOfBytes(encode(values), Float64, 5)
	if !slices.Equal(decode[float64](tensor), values) || !slices.Equal(tensor.Float64s(), values) {
		t.Errorf("decode: %v", decode[float64](tensor))
	}
	singles := []float32{0.1, -2, math.MaxFloat32}
	tensor = TensorOfBytes(encode(singles), Float32, 3)
	if !slices.Equal(decode[float32](tensor), singles) || tensor.Float64s()[0] != float64(singles[0]) {
		t.Errorf("decode: %v", decode[float32](tensor))
	}
	if !bytes.Equal(toBytes([]int32{1, -2}), []byte("\x01\x00\x00\x00\xfe\xff\xff\xff")) {
		t.Error("int32")
	}
}

func TestBytesThatAreNotAlignedAreCopied(t *testing.T) {
	raw := append([]byte{0}, encode([]float64{1, 2, 3})...)
	for shift := range 2 { // one of them is not aligned
		memory := make([]byte, len(raw)+8)
		copy(memory[shift:], raw)
		if got := TensorOfBytes(memory[shift+1:shift+25], Float64, 3).Float64s(); !slices.Equal(got, []float64{1, 2, 3}) {
			t.Errorf("got %v", got)
		}
	}
}

func TestShapesAreCheckedBeforeSending(t *testing.T) {
	for name, c := range map[string]struct {
		tensor Tensor
		wrong  bool
	}{
		"vector":        {NewTensor([]float32{1, 2}), false},
		"matrix":        {NewTensor([]float32{1, 2}, 2, 1), false},
		"none":          {Tensor{}, false},
		"too few":       {NewTensor([]float32{1, 2, 3}, 2, 2), true},
		"too many":      {NewTensor([]float32{1, 2, 3}, 1, 2), true},
		"zero":          {NewTensor([]float32{}, 0, 2), true},
		"negative":      {NewTensor([]float32{1, 2}, -1, -2), true},
		"overflow":      {NewTensor([]float32{1, 2}, math.MaxInt32, math.MaxInt32, math.MaxInt32), true},
		"bytes":         {TensorOfBytes(make([]byte, 7), Float32, 2), true},
		"unknown dtype": {TensorOfBytes(make([]byte, 8), DataType(9), 2), true},
	} {
		var wrong violations
		c.tensor.check(&wrong, "inputs")
		if (len(wrong) > 0) != c.wrong {
			t.Errorf("%s: %v", name, wrong)
		}
	}
}

func TestFromRows(t *testing.T) {
	tensor := FromRows([][]float64{{1, 2}, {3, 4}, {5, 6}})
	if !slices.Equal(tensor.Shape(), []int{3, 2}) || !slices.Equal(tensor.Row(1), []float64{3, 4}) {
		t.Errorf("%v %v", tensor.Shape(), tensor.Row(1))
	}
	defer func() {
		if recover() == nil {
			t.Error("rows of different lengths are accepted")
		}
	}()
	FromRows([][]float64{{1, 2}, {3}})
}

func TestSpecsAreTheJSONOfTheContract(t *testing.T) {
	all := []ModelSpec{
		{InputSize: 2, Layers: []Layer{{Units: 3, Activation: LeakyReLU, NegativeSlope: Ptr(0.0), Dropout: 0.5},
			{Units: 2, Initializer: Constant, InitialValue: Ptr(0.0), BiasInitializer: Zeros}},
			Loss:      SoftmaxCrossEntropy{LabelSmoothing: 0.1, ClassWeights: []float64{1, 2}},
			Optimizer: AdamW{LearningRate: 0.1, Beta1: Ptr(0.0), WeightDecay: Ptr(0.0)}, Schedule: CosineSchedule{TotalSteps: 9},
			WarmupSteps: 3, L1: 0.5, ClipNorm: 1, Seed: 1 << 63, DataType: Float64, ClassNames: []string{"a", "b"},
			InputStandardization: &InputStandardization{}},
		{InputSize: 1, Layers: []Layer{{Units: 1}}, Loss: Huber{Delta: 2}, Optimizer: SGD{Momentum: 0.9, Nesterov: true},
			Schedule: ReduceOnPlateauSchedule{Patience: Ptr[int64](0)}, ClipValue: 3},
		{InputSize: 1, Layers: []Layer{{Units: 1}}, Loss: BinaryCrossEntropy{PosWeight: []float64{2}},
			Optimizer: RMSProp{Alpha: Ptr(0.5), Centered: true}, Schedule: StepSchedule{StepSize: 4, Gamma: 0.5}},
		{InputSize: 1, Layers: []Layer{{Units: 1}}, Loss: MeanSquaredError{}, Optimizer: Adagrad{LRDecay: 1},
			Schedule: ExponentialSchedule{Gamma: 0.9}},
		{InputSize: 1, Layers: []Layer{{Units: 1}}, Loss: MeanAbsoluteError{}, Optimizer: Adam{Beta2: Ptr(0.5)}},
	}
	for i, spec := range all {
		text, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		var again ModelSpec
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		text2, _ := json.Marshal(again)
		var a, b any
		_, _ = json.Unmarshal(text, &a), json.Unmarshal(text2, &b)
		first, _ := json.Marshal(a)
		second, _ := json.Marshal(b)
		if !bytes.Equal(first, second) {
			t.Errorf("%d: %s became %s", i, first, second)
		}
		for _, field := range []string{"inputSize", "layers"} {
			if !strings.Contains(string(text), field) {
				t.Errorf("%d: %s has no %s", i, text, field)
			}
		}
	}
	for _, text := range []string{`{"inputSize":1,"layers":[{"units":1,"activation":"ACTIVATION_RELUU"}]}`, `{"inputs":1}`} {
		if err := json.Unmarshal([]byte(text), new(ModelSpec)); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
	if _, err := json.Marshal(ModelSpec{InputSize: 1, Layers: []Layer{{Units: 1, Activation: 99}}}); err == nil {
		t.Error("an unknown activation is accepted")
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{LeakyReLU.String(): "leaky_relu", HeNormal.String(): "he_normal",
		Float64.String(): "float64", Completed.String(): "COMPLETED", Passed.String(): "PASSED",
		DurabilityEverySecond.String(): "every_second", Activation(77).String(): "unknown(77)"} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
