package backprop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

func TestTrainPredictEvaluate(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.address)
	ctx := timeout(t)
	spec := xorSpec
	spec.ClassNames = []string{"different", "same"}
	m, err := c.CreateModel(ctx, spec, ModelID("xor"), Labels{"team": "red"}, TTL(time.Hour), DurabilityNone)
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "models/xor" || m.Labels["team"] != "red" || m.TTL != time.Hour || m.Durability != DurabilityNone ||
		m.ParameterCount != 82 || m.ExpireTime.IsZero() || m.Spec.Layers[0].Units != 16 {
		t.Errorf("%+v", m)
	}
	var reports []int64
	summary, err := c.Train(ctx, "xor", xorRows(), Iterations(2000), ReportEvery(500), ReportInterval(time.Hour),
		ValidationSplit(0.1), EarlyStopping{Patience: 10000}, AutoCheckpoints{KeepBest: true},
		OnProgress(func(p Progress) { reports = append(reports, p.Iteration) }))
	if err != nil {
		t.Fatal(err)
	}
	if summary.StopReason != Completed || *summary.Metrics.Accuracy < 0.95 || summary.Validation == nil {
		t.Errorf("%+v", summary)
	}
	if !slices.Equal(reports, []int64{1, 500, 1000, 1500, 2000}) {
		t.Errorf("reports %v", reports)
	}
	corners := FromRows([][]float64{{-0.5, -0.5}, {-0.5, 0.5}, {0.5, -0.5}, {0.5, 0.5}})
	p, err := c.Predict(ctx, "models/xor", corners)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Classes, []int32{1, 0, 0, 1}) || p.ClassNames[0] != "same" || p.Step != summary.Step ||
		p.Probabilities.Row(0)[1] < 0.9 {
		t.Errorf("%+v", p)
	}
	if p, err = c.Predict(ctx, "xor", corners, Logits); err != nil || p.Logits.Len() != 8 || p.Classes != nil {
		t.Errorf("%+v, %v", p, err)
	}
	e, err := c.Evaluate(ctx, "xor", xorRows(), nil)
	if err != nil || e.Classification == nil || len(e.Classification.Classes) != 2 || len(e.Classification.ConfusionMatrix) != 4 {
		t.Errorf("%+v, %v", e, err)
	}
	check, err := c.GradCheck(ctx, "xor", xorRows(), &GradCheckOptions{MaxEntriesPerTensor: 20})
	if err != nil || check.Verdict != Passed || len(check.Tensors) != 4 {
		t.Errorf("%+v, %v", check, err)
	}
	g, err := c.ComputeGradients(ctx, "xor", xorRows())
	if err != nil || g.Weight != 200 || len(g.Tensors) != 4 {
		t.Fatalf("%+v, %v", g, err)
	}
	applied, err := c.ApplyGradients(ctx, "xor", g.Tensors, ExpectedStep(g.Step))
	if err != nil || applied.Step != g.Step+1 {
		t.Errorf("%+v, %v", applied, err)
	}
	var names []string
	for k, err := range c.ListCheckpoints(ctx, "xor") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, k.Name)
	}
	if !slices.Equal(names, []string{"models/xor/checkpoints/run-1-best"}) {
		t.Errorf("%v", names)
	}
	if step, err := c.RestoreCheckpoint(ctx, "xor", "run-1-best"); err != nil || step < 1 {
		t.Errorf("%d, %v", step, err)
	}
	if err := c.DeleteCheckpoint(ctx, "xor", "models/xor/checkpoints/run-1-best"); err != nil {
		t.Error(err)
	}
	if err := c.DeleteModel(ctx, "xor", RequestID("gone")); err != nil {
		t.Error(err)
	}
	if err := c.DeleteModel(ctx, "xor", RequestID("gone")); err != nil {
		t.Errorf("the same request: %v", err)
	}
	if err := c.DeleteModel(ctx, "xor"); codeOf(err) != codes.NotFound {
		t.Errorf("another request: %v", err)
	}
}

func TestListModelsReadsAllPages(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.address)
	for i := range 5 {
		create(t, c, fmt.Sprintf("m%d", i), xorSpec)
	}
	var names []string
	for m, err := range c.ListModels(timeout(t), PageSize(2)) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, m.Name)
	}
	if fmt.Sprint(names) != "[models/m0 models/m1 models/m2 models/m3 models/m4]" {
		t.Error(names)
	}
	for _, err := range c.ListModels(timeout(t), PageSize(-1)) {
		if codeOf(err) != codes.InvalidArgument {
			t.Error(err)
		}
	}
}

// The server is killed in the middle of a run, twice: the run resumes, each event is seen once, and
// the parameters are those of a run that was not disturbed.
func TestTrainSurvivesKills(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.address)
	ctx := timeout(t)
	create(t, c, "a", slowSpec)
	create(t, c, "b", slowSpec)
	kills := 0
	var last int64
	summary, err := c.Train(ctx, "a", slowRows(), Iterations(400), ReportEvery(10), OnEvent(func(e Event) error {
		if e.Sequence <= last {
			return fmt.Errorf("event %d after %d", e.Sequence, last)
		}
		last = e.Sequence
		if e.Progress != nil && e.Progress.Iteration >= int64(100*(kills+1)) && kills < 2 {
			kills++
			s.restart(t)
		}
		return nil
	}))
	if err != nil || summary.StopReason != Completed || summary.Iterations != 400 || kills != 2 {
		t.Fatalf("%+v, %v after %d kills", summary, err, kills)
	}
	if _, err := c.Train(ctx, "b", slowRows(), Iterations(400)); err != nil {
		t.Fatal(err)
	}
	a, err := c.GetParameters(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.GetParameters(ctx, "b")
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.Tensors {
		if !bytes.Equal(a.Tensors[i].Tensor.Bytes(), b.Tensors[i].Tensor.Bytes()) {
			t.Errorf("%s differs", a.Tensors[i].Name)
		}
	}
}

func TestWatchSurvivesKills(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.address)
	ctx := timeout(t)
	create(t, c, "a", slowSpec)
	for range c.TrainEvents(ctx, "a", slowRows(), Iterations(300), ReportEvery(10), Detach()) {
		break // the run is detached
	}
	killed := false
	var last int64
	var summary *Summary
	for e, err := range c.WatchEvents(ctx, "a") {
		if err != nil {
			t.Fatal(err)
		}
		if e.Sequence <= last || e.Run != "models/a/runs/1" {
			t.Fatalf("event %d of %s after %d", e.Sequence, e.Run, last)
		}
		last = e.Sequence
		if e.Progress != nil && e.Progress.Iteration >= 100 && !killed {
			killed = true
			s.restart(t)
		}
		summary = e.Summary
	}
	if !killed || summary == nil || summary.StopReason != Completed {
		t.Errorf("%v, %+v", killed, summary)
	}
	late, err := c.Watch(ctx, "a", Run("models/a/runs/1"), FromSequence(1000))
	if err != nil || late.Iterations != 300 {
		t.Errorf("%+v, %v", late, err)
	}
}

func TestLeavingARunStopsIt(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.address)
	long := []TrainOption{Iterations(1_000_000), ReportEvery(10)}
	mine := errors.New("mine")
	for name, leave := range map[string]func(context.Context, string) error{
		"break": func(ctx context.Context, id string) error {
			for e, err := range c.TrainEvents(ctx, id, slowRows(), long...) {
				if err != nil {
					return err
				}
				if e.Progress != nil {
					break
				}
			}
			return nil
		},
		"panic": func(ctx context.Context, id string) (err error) {
			defer func() { _ = recover() }()
			for range c.TrainEvents(ctx, id, slowRows(), long...) {
				panic("in the loop")
			}
			return errors.New("no panic")
		},
		"error": func(ctx context.Context, id string) error {
			_, err := c.Train(ctx, id, slowRows(), append(long, OnEvent(func(Event) error { return mine }))...)
			if !errors.Is(err, mine) {
				return fmt.Errorf("got %w", err)
			}
			return nil
		},
		"cancel": func(ctx context.Context, id string) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			_, err := c.Train(ctx, id, slowRows(), append(long, OnEvent(func(Event) error { cancel(); return nil }))...)
			if codeOf(err) != codes.Canceled {
				return fmt.Errorf("got %w", err)
			}
			return nil
		},
		"deadline": func(ctx context.Context, id string) error {
			ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			if _, err := c.Train(ctx, id, slowRows(), long...); codeOf(err) != codes.DeadlineExceeded {
				return fmt.Errorf("got %w", err)
			}
			return nil
		},
	} {
		create(t, c, name, slowSpec)
		if err := leave(timeout(t), name); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		summary, err := c.Watch(ctx, name)
		cancel()
		if err != nil || summary.StopReason != Cancelled || summary.Iterations >= 1_000_000 {
			t.Errorf("%s: %+v, %v", name, summary, err)
		}
	}
}

func TestABrokenConnectionThatStoppedTheRunIsAnError(t *testing.T) {
	s := startServer(t)
	r := startRelay(t, s.address)
	c := connect(t, r.address())
	create(t, c, "a", slowSpec)
	cut := false
	_, err := c.Train(timeout(t), "a", slowRows(), Iterations(1_000_000), ReportEvery(10), OnEvent(func(e Event) error {
		if e.Progress != nil && !cut {
			cut = true
			r.cut()
		}
		return nil
	}))
	var e *Error
	if !errors.As(err, &e) || e.Code != codes.Unavailable || e.Reason != "CONNECTION_BROKE" {
		t.Errorf("got %v", err)
	}
}

func TestStopTraining(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.address)
	ctx := timeout(t)
	create(t, c, "a", slowSpec)
	var stopped *StopResult
	summary, err := c.Train(ctx, "a", slowRows(), Iterations(1_000_000), ReportEvery(10), OnEvent(func(e Event) (err error) {
		if e.Progress != nil && stopped == nil {
			stopped, err = c.StopTraining(ctx, "a")
		}
		return err
	}))
	if err != nil || summary.StopReason != Stopped || stopped.Run != "models/a/runs/1" || stopped.Summary.Iterations != summary.Iterations {
		t.Errorf("%+v, %+v, %v", summary, stopped, err)
	}
}

// manyBatches yields batches of the rows of XOR.
func manyBatches(n int, each func(i int)) func(func(Batch) bool) {
	rows := xorRows()
	return func(yield func(Batch) bool) {
		for i := range n {
			each(i)
			first := i % 10 * 20
			if !yield(rows.Slice(first, first+20)) {
				return
			}
		}
	}
}

// The server is killed while steps are on their way: each is made once, in order.
func TestPipelinedStepsSurviveKills(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.address)
	ctx := timeout(t)
	create(t, c, "a", xorSpec)
	create(t, c, "b", xorSpec)
	const n = 600
	wanted := int64(0)
	for result, err := range c.Steps(ctx, "a", manyBatches(n, func(i int) {
		if i == 150 || i == 400 {
			s.restart(t)
		}
	}), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if wanted++; result.Step != wanted {
			t.Fatalf("step %d instead of %d", result.Step, wanted)
		}
	}
	if wanted != n {
		t.Errorf("%d results", wanted)
	}
	for _, err := range c.Steps(ctx, "b", manyBatches(n, func(int) {}), 1) {
		if err != nil {
			t.Fatal(err)
		}
	}
	a, err := c.GetWeights(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.GetWeights(ctx, "b")
	if err != nil {
		t.Fatal(err)
	}
	if *a.Step != n || *b.Step != n || a.OptimizerState != nil && len(a.OptimizerState) > 0 {
		t.Errorf("%d and %d steps", *a.Step, *b.Step)
	}
	for _, x := range a.Tensors {
		if !bytes.Equal(x.Tensor.Bytes(), b.Tensor(x.Name).Bytes()) {
			t.Errorf("%s differs", x.Name)
		}
	}
}

func TestStepsReportRejectedBatches(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.address)
	ctx := timeout(t)
	create(t, c, "a", xorSpec)
	good := xorRows()
	bad := Batch{Inputs: good.Inputs, Labels: slices.Repeat([]int32{9}, 200)}
	var outcomes []string
	for result, err := range c.Steps(ctx, "a", slices.Values([]Batch{good, bad, good}), 0) {
		switch {
		case err == nil:
			outcomes = append(outcomes, fmt.Sprint(result.Step))
		case StepRejected(err):
			outcomes = append(outcomes, codeOf(err).String())
		default:
			t.Fatal(err)
		}
	}
	if fmt.Sprint(outcomes) != "[1 InvalidArgument 2]" {
		t.Error(outcomes)
	}
	// A batch that cannot be sent is the last error, after the results of the others.
	outcomes = nil
	for result, err := range c.Steps(ctx, "a", slices.Values([]Batch{good, {Inputs: NewTensor([]float32{1}, 2, 2)}, good}), 0) {
		if err != nil {
			outcomes = append(outcomes, fmt.Sprint(StepRejected(err), codeOf(err)))
		} else {
			outcomes = append(outcomes, fmt.Sprint(result.Step))
		}
	}
	if fmt.Sprint(outcomes) != "[3 false InvalidArgument]" {
		t.Error(outcomes)
	}
	for range c.Steps(ctx, "a", manyBatches(100, func(int) {}), 0) {
		break // leaves no goroutine
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range c.Steps(ended, "a", manyBatches(3, func(int) {}), 0) {
		if codeOf(err) != codes.Canceled {
			t.Error(err)
		}
	}
	// Cancelled while it waits for a response. Often, because two goroutines race.
	if err := s.command.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		var last error
		for _, err := range c.Steps(soon, "a", manyBatches(3, func(int) {}), 0) {
			last = err
		}
		cancel()
		if codeOf(last) != codes.DeadlineExceeded {
			t.Error(last)
		}
	}
	if err := s.command.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

func TestLargeTensorsKeepEveryBit(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.address)
	ctx := timeout(t)
	create(t, c, "a", ModelSpec{InputSize: 1250, Layers: []Layer{{Units: 4000}, {Units: 2}}})
	weights := make([]float32, 1250*4000) // 20 MB: five times the default limit of gRPC
	for i := range weights {
		weights[i] = float32(i%8191) / 8192
	}
	w := NewTensor(weights, 1250, 4000)
	if _, err := c.SetParameters(ctx, "a", &Parameters{Tensors: []NamedTensor{{"layers[0].weights", w}}}); err != nil {
		t.Fatal(err)
	}
	p, err := c.GetParameters(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Tensor("layers[0].weights"); !slices.Equal(got.Shape(), []int{1250, 4000}) || !slices.Equal(got.Float32s(), weights) {
		t.Error("the weights differ")
	}
	if !p.Tensor("nothing").IsZero() {
		t.Error("a tensor that is not there")
	}
}

func manyRows(n int) Batch {
	values := make([]float64, n*16)
	labels := make([]int32, n)
	for i := range values {
		values[i] = float64(i*7919%1000)/500 - 1
	}
	for i := range labels {
		labels[i] = int32(i % 2)
	}
	return Batch{Inputs: NewTensor(values, n, 16), Labels: labels, SampleWeights: slices.Repeat([]float64{0.5}, n)}
}

// The server is killed in the middle of an upload: it resumes from the rows that the server has.
// The checksums show that float64 rows are stored as the client says.
func TestUploadSurvivesKills(t *testing.T) {
	for _, precision := range []DataType{Float32, Float64} {
		s := startServer(t)
		c := connect(t, s.address)
		ctx := timeout(t)
		var sent []int64
		killed := false
		d, err := c.UploadDataset(ctx, "many", manyRows(20000), ChunkRows(1000), Precision(precision), Labels{"k": "v"},
			OnUpload(func(rows int64) {
				sent = append(sent, rows)
				if rows == 10000 && !killed {
					killed = true
					s.restart(t)
				}
			}))
		if err != nil || !d.Ready || d.Rows != 20000 || d.DataType != precision || !d.HasSampleWeights || d.Labels["k"] != "v" {
			t.Fatalf("%+v, %v", d, err)
		}
		if after := sent[slices.Index(sent, 10000)+1]; !killed || after <= 1000 {
			t.Errorf("after 10,000 rows the upload started again: %v", sent)
		}
		create(t, c, "a", ModelSpec{InputSize: 16, Layers: []Layer{{Units: 2}}})
		if _, err := c.Train(ctx, "a", StoredDataset("many"), Epochs(1), BatchSize(1000)); err != nil {
			t.Error(err)
		}
		if _, err := c.Evaluate(ctx, "a", StoredDataset("many"), &EvaluateOptions{SummaryOnly: true}); err != nil {
			t.Error(err)
		}
		for d, err := range c.ListDatasets(ctx) {
			if err != nil || d.Name != "datasets/many" {
				t.Errorf("%+v, %v", d, err)
			}
		}
		if err := c.DeleteDataset(ctx, "many"); err != nil {
			t.Error(err)
		}
	}
}

func TestUploadOfASource(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.address)
	ctx := timeout(t)
	all := manyRows(3000)
	source := func(first int64) (Batch, error) {
		if first == 3000 {
			return Batch{}, io.EOF
		}
		return all.Slice(int(first), min(int(first)+777, 3000)), nil
	}
	if d, err := c.UploadRows(ctx, "a", source); err != nil || d.Rows != 3000 {
		t.Fatalf("%+v, %v", d, err)
	}
	mine := errors.New("mine")
	if _, err := c.UploadRows(ctx, "b", func(int64) (Batch, error) { return Batch{}, mine }); !errors.Is(err, mine) {
		t.Error(err)
	}
	if _, err := c.UploadRows(ctx, "b", func(int64) (Batch, error) { return Batch{}, nil }); codeOf(err) != codes.InvalidArgument {
		t.Error(err)
	}
	if _, err := c.UploadRows(ctx, "a", source); codeOf(err) != codes.AlreadyExists {
		t.Error(err)
	}
	named := Batch{Inputs: FromRows([][]float32{{1}, {2}, {3}}), LabelNames: []string{"x", "y", "x"}}
	d, err := c.UploadDataset(ctx, "named", named, FeatureNames{"f"})
	if err != nil || fmt.Sprint(d.ClassNames, d.FeatureNames) != "[x y] [f]" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestExportAndImport(t *testing.T) {
	s := startServer(t)
	r := startRelay(t, s.address)
	c := connect(t, r.address())
	ctx := timeout(t)
	create(t, c, "a", ModelSpec{InputSize: 1250, Layers: []Layer{{Units: 1000}, {Units: 2}}})
	path := filepath.Join(t.TempDir(), "a.model")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	r.cutAfterBytes(3 << 20) // in the middle of the file of 5 MB
	size, err := c.ExportModel(ctx, "a", file)
	if err != nil || size < 5_000_000 {
		t.Fatalf("%d bytes, %v", size, err)
	}
	if about, err := file.Stat(); err != nil || about.Size() != size {
		t.Errorf("the file has %d bytes, not %d: %v", about.Size(), size, err)
	}
	r.cutAfterBytes(3 << 20)
	var once strings.Builder // cannot be written again
	if n, err := c.ExportModel(ctx, "a", &once); codeOf(err) != codes.Unavailable || n == 0 {
		t.Errorf("%d bytes, %v", n, err)
	}

	if _, err := file.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	// The response of the import is lost.
	r.setHold(true)
	control := connect(t, s.address)
	done := make(chan error, 1)
	go func() {
		m, err := c.ImportModel(ctx, file, ModelID("b"))
		if err == nil && m.Name != "models/b" {
			err = errors.New(m.Name)
		}
		done <- err
	}()
	for range 1200 {
		if _, err := control.GetModel(ctx, "b"); err == nil {
			break
		}
		time.Sleep(25 * time.Millisecond)
	}
	r.setHold(false)
	r.cut()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// A pipe can be read once.
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := c.ImportModel(ctx, io.MultiReader(bytes.NewReader(text)), ModelID("d")); err != nil || m.Step != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	text[len(text)/2] ^= 1
	if _, err := c.ImportModel(ctx, bytes.NewReader(text), ModelID("e")); codeOf(err) != codes.InvalidArgument {
		t.Error(err)
	}
}

func TestAdministration(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.address)
	ctx := timeout(t)
	create(t, c, "a", xorSpec)
	if _, err := c.CreateCheckpoint(ctx, "a", "one"); err != nil {
		t.Fatal(err)
	}
	var backup bytes.Buffer
	if n, err := c.CreateBackup(ctx, "", &backup); err != nil || n != int64(backup.Len()) || n == 0 {
		t.Fatalf("%d, %v", n, err)
	}
	if _, err := c.RestoreBackup(ctx, bytes.NewReader(backup.Bytes())); codeOf(err) != codes.FailedPrecondition {
		t.Errorf("a server that is not empty: %v", err)
	}
	other := connect(t, startServer(t).address)
	if restored, err := other.RestoreBackup(ctx, &backup); err != nil || restored.Models != 1 {
		t.Errorf("%+v, %v", restored, err)
	}
	if m, err := other.GetModel(ctx, "a"); err != nil || m.Name != "models/a" {
		t.Errorf("%+v, %v", m, err)
	}
	if p, err := c.GetProject(ctx, "default"); err != nil || p.Name != "projects/default" || len(p.Quotas) == 0 {
		t.Errorf("%+v, %v", p, err)
	}
	for p, err := range c.ListProjects(ctx) {
		if err != nil || p.Name == "" {
			t.Errorf("%+v, %v", p, err)
		}
	}
	status, err := c.GetServerStatus(ctx, true)
	if err != nil || status.Version == "" || len(status.Flags) == 0 || len(status.Health) == 0 || status.StartTime.IsZero() {
		t.Errorf("%+v, %v", status, err)
	}
}
