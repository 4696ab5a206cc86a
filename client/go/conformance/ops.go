package main

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"os"

	backprop "backprop.dev/go"
)

// An operation makes a call and returns the result of its reply. emit writes an event.
type operation func(ctx context.Context, c *backprop.Client, a *arguments, emit func(object)) (object, error)

var ops = map[string]operation{
	"health": func(ctx context.Context, c *backprop.Client, _ *arguments, _ func(object)) (object, error) {
		serving, err := c.CheckHealth(ctx, "")
		return object{"serving": serving}, err
	},
	"create_model":       createModel,
	"get_model":          getModel,
	"list_models":        listModels,
	"train":              train,
	"watch":              watch,
	"step":               step,
	"steps":              steps,
	"predict":            predict,
	"compute_gradients":  computeGradients,
	"get_parameters":     getParameters,
	"upload_dataset":     uploadDataset,
	"export_model":       exportModel,
	"import_model":       importModel,
	"list_checkpoints":   listCheckpoints,
	"restore_checkpoint": restoreCheckpoint,
	"delete_model": func(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
		return object{}, c.DeleteModel(ctx, a.Model, changes(a)...)
	},
	"stop_training": func(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
		stopped, err := c.StopTraining(ctx, a.Model)
		if err != nil {
			return nil, err
		}
		return object{"run": stopped.Run, "iterations": stopped.Summary.Iterations}, nil
	},
	"evaluate": func(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
		rows, err := a.rows()
		if err != nil {
			return nil, err
		}
		e, err := c.Evaluate(ctx, a.Model, rows, nil)
		if err != nil {
			return nil, err
		}
		result := object{"loss": e.Metrics.Loss, "step": e.Step}
		if e.Metrics.Accuracy != nil {
			result["accuracy"] = *e.Metrics.Accuracy
		}
		return result, nil
	},
	"grad_check": func(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
		batch, err := a.batch()
		if err != nil {
			return nil, err
		}
		check, err := c.GradCheck(ctx, a.Model, batch, nil)
		if err != nil {
			return nil, err
		}
		return object{"verdict": check.Verdict.String(), "explanation": check.Explanation}, nil
	},
	"apply_gradients": func(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
		tensors, err := a.named()
		if err != nil {
			return nil, err
		}
		applied, err := c.ApplyGradients(ctx, a.Model, tensors, a.stepOptions()...)
		if err != nil {
			return nil, err
		}
		return object{"step": applied.Step}, nil
	},
	"set_parameters": func(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
		tensors, err := a.named()
		if err != nil {
			return nil, err
		}
		step, err := c.SetParameters(ctx, a.Model, &backprop.Parameters{Tensors: tensors}, a.stepOptions()...)
		return object{"step": step}, err
	},
	"create_checkpoint": func(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
		checkpoint, err := c.CreateCheckpoint(ctx, a.Model, a.Checkpoint, changes(a)...)
		if err != nil {
			return nil, err
		}
		return object{"name": checkpoint.Name}, nil
	},
	"delete_checkpoint": func(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
		return object{}, c.DeleteCheckpoint(ctx, a.Model, a.Checkpoint, changes(a)...)
	},
	"get_dataset": func(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
		d, err := c.GetDataset(ctx, a.Dataset)
		if err != nil {
			return nil, err
		}
		return object{"name": d.Name, "rows": d.Rows, "ready": d.Ready}, nil
	},
	"list_datasets": func(ctx context.Context, c *backprop.Client, _ *arguments, _ func(object)) (object, error) {
		return names(c.ListDatasets(ctx), func(d *backprop.Dataset) string { return d.Name })
	},
	"delete_dataset": func(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
		return object{}, c.DeleteDataset(ctx, a.Dataset, changes(a)...)
	},
}

// changes returns the request id as an option, if there is one.
func changes(a *arguments) []backprop.ChangeOption {
	if a.RequestID == "" {
		return nil
	}
	return []backprop.ChangeOption{backprop.RequestID(a.RequestID)}
}

func (a *arguments) stepOptions() (options []backprop.StepOption) {
	if a.ExpectedStep != nil {
		options = append(options, backprop.ExpectedStep(*a.ExpectedStep))
	}
	if a.RequestID != "" {
		options = append(options, backprop.RequestID(a.RequestID))
	}
	return options
}

func (a *arguments) rows() (backprop.Rows, error) {
	if a.Dataset != "" {
		return backprop.StoredDataset(a.Dataset), nil
	}
	return a.batch()
}

func names[T any](all iter.Seq2[T, error], name func(T) string) (object, error) {
	list := []string{}
	for one, err := range all {
		if err != nil {
			return nil, err
		}
		list = append(list, name(one))
	}
	return object{"names": list}, nil
}

func createModel(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
	var spec backprop.ModelSpec
	if err := json.Unmarshal(a.Spec, &spec); err != nil {
		return nil, asError(err)
	}
	var options []backprop.CreateOption
	if a.ModelID != "" {
		options = append(options, backprop.ModelID(a.ModelID))
	}
	if a.RequestID != "" {
		options = append(options, backprop.RequestID(a.RequestID))
	}
	if len(a.Labels) > 0 {
		var labels backprop.Labels
		if err := json.Unmarshal(a.Labels, &labels); err != nil {
			return nil, err
		}
		options = append(options, labels)
	}
	m, err := c.CreateModel(ctx, spec, options...)
	if err != nil {
		return nil, err
	}
	return object{"name": m.Name, "step": m.Step, "parameter_count": m.ParameterCount}, nil
}

func getModel(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
	m, err := c.GetModel(ctx, a.Model)
	if err != nil {
		return nil, err
	}
	return object{"name": m.Name, "step": m.Step, "spec": m.Spec}, nil
}

func listModels(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
	options := []backprop.ListOption{backprop.PageSize(a.PageSize)}
	if len(a.Labels) > 0 {
		var labels backprop.Labels
		if err := json.Unmarshal(a.Labels, &labels); err != nil {
			return nil, err
		}
		options = append(options, labels)
	}
	return names(c.ListModels(ctx, options...), func(m *backprop.Model) string { return m.Name })
}

// follow writes the events of a run and returns its summary.
func follow(events iter.Seq2[backprop.Event, error], limit int, emit func(object)) (object, error) {
	sequences := []int64{}
	result := object{}
	for event, err := range events {
		if err != nil {
			return nil, err
		}
		sequences = append(sequences, event.Sequence)
		out := object{"run": event.Run, "sequence": event.Sequence, "dropped": event.Dropped}
		switch {
		case event.Started != nil:
			out["kind"] = "started"
		case event.Progress != nil:
			p := event.Progress
			out["kind"], out["iteration"], out["step"], out["loss"] = "progress", p.Iteration, p.Step, p.Metrics.Loss
		case event.Summary != nil:
			s := event.Summary
			result = object{"stop_reason": s.StopReason.String(), "iterations": s.Iterations, "step": s.Step,
				"message": s.Message}
			if s.Metrics != nil {
				result["loss"] = s.Metrics.Loss
			}
			out["kind"] = "summary"
			for key, value := range result {
				out[key] = value
			}
		}
		emit(out)
		if limit > 0 && len(sequences) == limit {
			break
		}
	}
	result["sequences"] = sequences
	return result, nil
}

func train(ctx context.Context, c *backprop.Client, a *arguments, emit func(object)) (object, error) {
	rows, err := a.rows()
	if err != nil {
		return nil, err
	}
	var options []backprop.TrainOption
	if a.Iterations != 0 {
		options = append(options, backprop.Iterations(a.Iterations))
	}
	if a.Epochs != 0 {
		options = append(options, backprop.Epochs(a.Epochs))
	}
	if a.BatchSize != 0 {
		options = append(options, backprop.BatchSize(a.BatchSize))
	}
	if a.ReportEvery != 0 {
		options = append(options, backprop.ReportEvery(a.ReportEvery))
	}
	if a.Detach {
		options = append(options, backprop.Detach())
	}
	if a.RequestID != "" {
		options = append(options, backprop.RequestID(a.RequestID))
	}
	return follow(c.TrainEvents(ctx, a.Model, rows, options...), a.CancelAfterEvents, emit)
}

func watch(ctx context.Context, c *backprop.Client, a *arguments, emit func(object)) (object, error) {
	var options []backprop.WatchOption
	if a.Run != "" {
		options = append(options, backprop.Run(a.Run))
	}
	if a.FromSequence != 0 {
		options = append(options, backprop.FromSequence(a.FromSequence))
	}
	return follow(c.WatchEvents(ctx, a.Model, options...), a.CancelAfterEvents, emit)
}

func step(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
	batch, err := a.batch()
	if err != nil {
		return nil, err
	}
	s, err := c.Step(ctx, a.Model, batch, a.stepOptions()...)
	if err != nil {
		return nil, err
	}
	return object{"step": s.Step, "loss": s.Metrics.Loss}, nil
}

func steps(ctx context.Context, c *backprop.Client, a *arguments, emit func(object)) (object, error) {
	var failure error
	batches := func(yield func(backprop.Batch) bool) {
		for _, rows := range a.Batches {
			batch, err := rows.batch()
			if failure = err; err != nil || !yield(batch) {
				return
			}
		}
	}
	numbers, losses := []int64{}, []float64{}
	for result, err := range c.Steps(ctx, a.Model, batches, a.InFlight) {
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, result.Step)
		losses = append(losses, result.Metrics.Loss)
		emit(object{"step": result.Step})
	}
	return object{"steps": numbers, "losses": losses}, failure
}

func predict(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
	inputs, err := a.Inputs.tensor()
	if err != nil {
		return nil, err
	}
	p, err := c.Predict(ctx, a.Model, inputs)
	if err != nil {
		return nil, err
	}
	result := object{"step": p.Step}
	for name, t := range map[string]backprop.Tensor{"probabilities": p.Probabilities, "logits": p.Logits} {
		if t.IsZero() {
			continue
		}
		if result[name], err = reply(t, a.ToFile); err != nil {
			return nil, err
		}
	}
	if p.Classes != nil {
		result["classes"] = p.Classes
	}
	return result, nil
}

func computeGradients(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
	batch, err := a.batch()
	if err != nil {
		return nil, err
	}
	g, err := c.ComputeGradients(ctx, a.Model, batch)
	if err != nil {
		return nil, err
	}
	tensors, err := namedReply(g.Tensors, a.ToFile)
	return object{"tensors": tensors, "weight": g.Weight, "step": g.Step}, err
}

func getParameters(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
	p, err := c.GetParameters(ctx, a.Model)
	if err != nil {
		return nil, err
	}
	tensors, err := namedReply(p.Tensors, a.ToFile)
	return object{"tensors": tensors, "step": *p.Step}, err
}

func uploadDataset(ctx context.Context, c *backprop.Client, a *arguments, emit func(object)) (object, error) {
	batch, err := a.batch()
	if err != nil {
		return nil, err
	}
	options := []backprop.UploadOption{backprop.ChunkRows(a.ChunkRows),
		backprop.OnUpload(func(rows int64) { emit(object{"rows": rows}) })}
	if a.RequestID != "" {
		options = append(options, backprop.RequestID(a.RequestID))
	}
	if batch.Inputs.Type() == backprop.Float64 {
		options = append(options, backprop.Precision(backprop.Float64))
	}
	d, err := c.UploadDataset(ctx, a.Dataset, batch, options...)
	if err != nil {
		return nil, err
	}
	return object{"name": d.Name, "rows": d.Rows}, nil
}

func exportModel(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
	file, err := os.Create(a.Path)
	if err != nil {
		return nil, err
	}
	size, err := c.ExportModel(ctx, a.Model, file)
	return object{"bytes": size}, errors.Join(err, file.Close())
}

func importModel(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
	file, err := os.Open(a.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var options []backprop.ImportOption
	if a.ModelID != "" {
		options = append(options, backprop.ModelID(a.ModelID))
	}
	if a.RequestID != "" {
		options = append(options, backprop.RequestID(a.RequestID))
	}
	m, err := c.ImportModel(ctx, file, options...)
	if err != nil {
		return nil, err
	}
	return object{"name": m.Name, "step": m.Step}, nil
}

func listCheckpoints(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
	return names(c.ListCheckpoints(ctx, a.Model), func(k *backprop.Checkpoint) string { return k.Name })
}

func restoreCheckpoint(ctx context.Context, c *backprop.Client, a *arguments, _ func(object)) (object, error) {
	step, err := c.RestoreCheckpoint(ctx, a.Model, a.Checkpoint, a.stepOptions()...)
	return object{"step": step}, err
}
