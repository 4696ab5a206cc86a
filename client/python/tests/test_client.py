"""The blocking client: requests, results, errors, and what is checked before sending."""

import dataclasses
import os
import pickle
import threading
import time
from datetime import timedelta

import numpy as np
import pytest
from conftest import slow_spec, spec, wide, xor

import backprop


def test_a_model_is_created_read_listed_and_deleted(client):
    made = client.create_model(spec(), "a", labels={"team": "red"}, ttl=timedelta(days=1))
    assert (made.name, made.step, made.parameter_count) == ("models/a", 0, 42)
    assert made.ttl == timedelta(days=1) and made.expire_time is not None
    assert made.durability == "sync"
    client.create_model(spec(), "b")
    read = client.get_model(made)
    assert read.labels == {"team": "red"}
    assert read.spec.layers[0].units == 8 and read.spec.optimizer.learning_rate == 0.1
    assert [m.name for m in client.list_models(page_size=1)] == ["models/a", "models/b"]
    assert [m.name for m in client.list_models({"team": "red"})] == ["models/a"]
    client.delete_model("a")
    with pytest.raises(backprop.NotFound) as caught:
        client.get_model("a")
    assert caught.value.reason == "MODEL_NOT_FOUND"
    assert caught.value.metadata == {"model": "models/a"}


def test_a_spec_survives_the_message(quick):
    full = backprop.ModelSpec(
        2, [backprop.Layer(4, "leaky_relu", "he_normal", negative_slope=0.2, dropout=0.1),
            backprop.Layer(3, initializer="constant", initial_value=0.5,
                           bias_initializer="constant", initial_bias=-1.0)],
        loss=backprop.SoftmaxCrossEntropy(0.1, (1.0, 2.0, 3.0)),
        optimizer=backprop.RmsProp(0.02, centered=True, momentum=0.5), seed=9, data_type="float64",
        class_names=("a", "b", "c"), feature_names=("x", "y"),
        input_standardization=backprop.InputStandardization((0.0, 1.0), (1.0, 2.0)),
        schedule=backprop.CosineSchedule(100, 0.001), warmup_steps=5, warmup_start_factor=0.5,
        l1=0.01, clip_norm=2.0)
    made = quick.create_model(full).spec
    assert made.layers[0].activation == "leaky_relu" and made.layers[0].dropout == 0.1
    for name in ("loss", "optimizer", "seed", "data_type", "class_names", "feature_names",
                 "input_standardization", "schedule", "warmup_steps", "warmup_start_factor", "l1",
                 "clip_norm", "clip_value"):
        given, read = getattr(full, name), getattr(made, name)
        if not dataclasses.is_dataclass(given):
            assert read == given, name
            continue
        assert type(read) is type(given)
        for field in dataclasses.fields(given):  # the server fills in its defaults
            if getattr(given, field.name) is not None:
                assert getattr(read, field.name) == getattr(given, field.name), field.name
    assert backprop.ModelSpec.from_json(made.to_json()) == made


def test_training_reports_and_learns(quick):
    x, y = xor()
    model = quick.create_model(spec(optimizer=backprop.Adam(0.05)))
    seen = []
    summary = quick.train(model, x, y, iterations=500, report_every=50, on_event=seen.append)
    assert summary.stop_reason == "completed" and summary.iterations == 500
    assert summary.metrics.accuracy > 0.95
    assert isinstance(seen[0].body, backprop.RunStarted) and seen[0].body.rows == 200
    assert seen[-1].summary == summary
    assert [e.sequence for e in seen] == sorted({e.sequence for e in seen})
    evaluation = quick.evaluate(model, x, y)
    assert evaluation.classification.confusion_matrix.sum() == 200
    assert evaluation.metrics.accuracy == summary.metrics.accuracy
    check = quick.grad_check(model, x[:20], y[:20])
    assert check.passed and check.verdict == "passed" and len(check.tensors) == 4


def test_validation_early_stopping_and_checkpoints(quick):
    x, y = xor()
    model = quick.create_model(spec(optimizer=backprop.Adam(0.05)))
    summary = quick.train(
        model, x[:150], y[:150], epochs=500, batch_size=32, validation=(x[150:], y[150:]),
        early_stopping=backprop.EarlyStopping(5),
        checkpoints=backprop.Checkpoints(keep_best=True))
    assert summary.stop_reason == "early_stopped" and summary.restored_best
    assert summary.validation.rows == 50
    assert [c.best for c in quick.list_checkpoints(model)] == [True]


def test_leaving_the_loop_stops_the_run(quick):
    x, y = wide()
    model = quick.create_model(slow_spec())
    run = quick.start_training(model, x, y, iterations=1_000_000, report_every=10)
    for event in run:
        if event.sequence == 3:
            break
    assert quick.watch_training(model).wait().stop_reason == "cancelled"
    assert run.summary is None  # and run still exists: only the loop was left


def test_an_exception_in_the_callback_stops_the_run(quick):
    x, y = wide()
    model = quick.create_model(slow_spec())

    def see(event):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        quick.train(model, x, y, iterations=1_000_000, on_event=see)
    assert quick.watch_training(model).wait().stop_reason == "cancelled"
    with pytest.raises(backprop.Cancelled):
        quick.train(model, x, y, iterations=1_000_000, on_event=lambda event: False)
    assert quick.watch_training(model).wait().stop_reason == "cancelled"


def test_a_detached_run_continues_and_is_watched_and_stopped(quick):
    x, y = wide()
    model = quick.create_model(slow_spec())
    for _ in quick.start_training(model, x, y, iterations=1_000_000, report_every=10, detach=True):
        break
    first = next(iter(quick.watch_training(model)))
    assert first.sequence == 1
    stopped = quick.stop_training(model)
    assert stopped.summary.stop_reason == "stopped"
    again = quick.watch_training(model, run=stopped.run, from_sequence=10**6)
    assert again.wait() == stopped.summary


def test_a_cancellation_ends_calls_of_other_threads(quick):
    x, y = wide()
    model = quick.create_model(slow_spec())
    cancellation = backprop.Cancellation()
    threading.Timer(0.3, cancellation.cancel).start()
    with pytest.raises(backprop.Cancelled):
        quick.train(model, x, y, iterations=1_000_000, cancellation=cancellation)
    with pytest.raises(backprop.Cancelled):
        quick.get_model(model, cancellation=cancellation)


def test_a_step_expects_its_step(quick):
    x, y = xor()
    model = quick.create_model(spec())
    assert quick.step(model, x, y, expected_step=0).step == 1
    with pytest.raises(backprop.StepMismatch) as caught:
        quick.step(model, x, y, expected_step=0)
    assert caught.value.current_step == 1
    assert pickle.loads(pickle.dumps(caught.value)).current_step == 1


def test_a_request_id_makes_a_step_once(quick):
    x, y = xor()
    model = quick.create_model(spec())
    first = quick.step(model, x, y, request_id="once")
    assert quick.step(model, x, y, request_id="once") == first
    assert quick.get_model(model).step == 1


def test_steps_are_those_of_single_calls(quick):
    x, y = xor()
    a, b = quick.create_model(spec()), quick.create_model(spec())
    batches = [(x[i:i + 20], y[i:i + 20]) for i in range(0, 200, 20)] * 10
    results = list(quick.steps(a, batches))
    assert [r.step for r in results] == list(range(1, 101))
    assert results == [quick.step(b, *batch) for batch in batches]
    with pytest.raises(backprop.InvalidArgument) as caught:
        list(quick.steps(a, [(x, y), (x[:, :1], y), (x, y)]))
    assert "inputs" in caught.value.violations[0].field


def test_gradients_are_a_step(quick):
    x, y = xor()
    a, b = quick.create_model(spec()), quick.create_model(spec())
    gradients = quick.compute_gradients(a, x, y)
    assert gradients.weight == 200
    assert quick.apply_gradients(a, gradients, expected_step=0).step == 1
    quick.step(b, x, y)
    for name, array in quick.get_parameters(a).tensors.items():
        np.testing.assert_array_equal(array, quick.get_parameters(b).tensors[name])


def test_parameters_and_checkpoints(quick):
    x, y = xor()
    model = quick.create_model(spec(optimizer="adam"))
    quick.train(model, x, y, iterations=5)
    quick.create_checkpoint(model, "five")
    five = quick.get_parameters(model)
    assert next(iter(five.tensors)) == "layers[0].weights" and len(five.optimizer_state) == 8
    quick.train(model, x, y, iterations=5)
    assert quick.restore_checkpoint(model, "five") == 5
    for name, array in quick.get_parameters(model).tensors.items():
        np.testing.assert_array_equal(array, five.tensors[name])
    quick.set_parameters(model, {"layers[1].bias": [1.0, -1.0]})
    assert quick.get_parameters(model).tensors["layers[1].bias"].tolist() == [1, -1]
    copy = quick.create_model(spec(optimizer="adam"), initial_parameters=five)
    assert copy.step == 5
    quick.delete_checkpoint(model, "five")
    assert list(quick.list_checkpoints(model)) == []


def test_datasets_are_uploaded_in_chunks_with_checksums(quick):
    x, y = xor()
    sent = []
    made = quick.upload_dataset("xor", x, y, chunk_rows=30, on_progress=sent.append,
                                sample_weights=np.ones(200))
    assert (made.rows, made.ready, made.has_sample_weights) == (200, True, True)
    assert sent == [*range(30, 200, 30), 200]
    a, b = quick.create_model(spec()), quick.create_model(spec())
    assert quick.train(a, dataset="xor", iterations=20).metrics == quick.train(
        b, x, y, sample_weights=np.ones(200), iterations=20).metrics
    assert "datasets/xor" in [d.name for d in quick.list_datasets()]
    wide64 = quick.upload_dataset("xor64", x.astype(np.float64), targets=np.eye(2)[y],
                                  data_type="float64")
    assert wide64.data_type == "float64" and wide64.target_size == 2
    parts = [backprop.Batch(x[i:i + 50], y[i:i + 50]) for i in range(0, 200, 50)]
    by_function = quick.upload_dataset(
        "parts", lambda first: parts[first // 50] if first < 200 else None)
    assert by_function.rows == 200
    with pytest.raises(ZeroDivisionError):
        quick.upload_dataset("broken", lambda first: 1 / 0)
    for name in ("xor", "xor64", "parts"):
        quick.delete_dataset(name)


def test_a_model_travels_as_a_file(quick, tmp_path):
    x, y = xor()
    model = quick.create_model(spec())
    quick.train(model, x, y, iterations=50)
    quick.export_model(model, tmp_path / "model")
    content = quick.export_model(model)
    assert content == (tmp_path / "model").read_bytes()
    assert [f.name for f in tmp_path.iterdir()] == ["model"]
    expected = quick.predict(model, x).probabilities
    with open(tmp_path / "model", "rb") as file:
        for source in (content, tmp_path / "model", str(tmp_path / "model"), file):
            copy = quick.import_model(source)
            np.testing.assert_array_equal(quick.predict(copy, x).probabilities, expected)
    with pytest.raises(backprop.InvalidArgument) as caught:
        quick.import_model(b"not a model")
    assert caught.value.violations[0].field == "data"


def test_a_backup_is_restored(client, tmp_path):
    client.create_model(spec(), "a")
    assert client.create_backup(tmp_path / "backup") > 0
    with backprop.serve(tmp_path / "other") as other:
        assert other.restore_backup(tmp_path / "backup") == (1, 0)
        assert [m.name for m in other.list_models()] == ["models/a"]


def test_a_large_tensor_in_both_directions(quick):
    model = quick.create_model(backprop.ModelSpec(
        1250, [backprop.Layer(4000), backprop.Layer(2)], optimizer="sgd"))
    weights = np.random.default_rng(6).normal(size=(1250, 4000)).astype(np.float32)
    quick.set_parameters(model, {"layers[0].weights": weights})
    read = quick.get_parameters(model).tensors["layers[0].weights"]
    np.testing.assert_array_equal(read, weights)
    quick.delete_model(model)


def test_arrays_of_every_layout_are_the_same_rows(quick):
    x, y = xor()
    model = quick.create_model(spec())
    expected = quick.predict(model, x, outputs="logits").logits
    for same in (np.asfortranarray(x), x.astype(">f4"), np.repeat(x, 2, axis=0)[::2], x.tolist(),
                 x.astype(np.float64)):
        np.testing.assert_array_equal(quick.predict(model, same, outputs="logits").logits,
                                      expected)
    double = quick.create_model(spec(data_type="float64"))
    assert quick.predict(double, x.astype(np.float64) + 1e-12).probabilities.dtype == np.float64
    for labels in (y.astype(np.int64), y.astype(bool), y.astype(float), y.tolist(), y[:, None]):
        assert quick.evaluate(model, x, labels).metrics == quick.evaluate(model, x, y).metrics


def test_data_frames_give_names(quick):
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    x, y = xor()
    names = np.array(["no", "yes"])[y]
    frame = pandas.DataFrame(x, columns=["left", "right"])
    category = pandas.Series(names).astype("category")
    made = backprop.ModelSpec.for_data(frame, category, hidden=(8,), optimizer="adam", seed=1)
    assert made.feature_names == ["left", "right"] and made.class_names == ["no", "yes"]
    models = []
    table = pyarrow.Table.from_pandas(frame)
    for inputs, labels in ((frame, category), (frame, pandas.Series(names)), (x, names),
                           (table, pyarrow.array(names)), (x, y)):
        model = quick.create_model(made)
        quick.train(model, inputs, labels, iterations=300)
        models.append(quick.predict(model, inputs))
    for prediction in models:
        np.testing.assert_array_equal(prediction.probabilities, models[0].probabilities)
    assert set(models[0].class_names) == {"no", "yes"}
    uploaded = quick.upload_dataset("frame", frame, category)
    assert uploaded.feature_names == ("left", "right")
    assert sorted(uploaded.class_names) == ["no", "yes"]
    quick.delete_dataset("frame")
    regression = backprop.ModelSpec.for_data(frame, targets=x[:, 0])
    assert regression.layers[-1].units == 1
    assert regression.loss == backprop.MeanSquaredError()


@pytest.mark.parametrize(("call", "field"), [
    (lambda c, x, y: c.create_model(spec(loss="sofmax")), "spec.loss"),
    (lambda c, x, y: c.create_model(backprop.ModelSpec(2, [backprop.Layer(2, "reluu")])),
     "spec.layers[0].activation"),
    (lambda c, x, y: c.create_model(backprop.ModelSpec(2.5, [])), "spec.input_size"),
    (lambda c, x, y: c.create_model(spec(), ""), "model_id"),
    (lambda c, x, y: c.create_model(spec(), durability="always"), "durability"),
    (lambda c, x, y: c.get_model(""), "name"),
    (lambda c, x, y: c.step("a", x, y[:-1]), "labels"),
    (lambda c, x, y: c.step("a", x.ravel(), y), "inputs"),
    (lambda c, x, y: c.step("a", x, y, request_id=""), "request_id"),
    (lambda c, x, y: c.step("a", x, y, targets=y), "labels"),
    (lambda c, x, y: c.train("a", x, y), "config.iterations"),
    (lambda c, x, y: c.train("a", x, y, iterations="many"), "config.iterations"),
    (lambda c, x, y: c.train("a", iterations=1), "data"),
    (lambda c, x, y: c.predict("a", np.array(["text"])), "inputs"),
    (lambda c, x, y: c.predict("a", x, outputs=["probability"]), "outputs[0]"),
    (lambda c, x, y: c.upload_dataset("d", x, y, data_type="int8"), "header.data_type"),
    (lambda c, x, y: next(c.steps("a", [], in_flight=0)), "in_flight"),
    (lambda c, x, y: c.health(timeout=0), "timeout"),
])
def test_mistakes_are_refused_before_sending(call, field):
    # Nothing listens on this address; a request that was sent would be UNAVAILABLE.
    with backprop.Client("127.0.0.1:1", retry=backprop.Retry(max_attempts=1)) as client:
        with pytest.raises(backprop.InvalidArgument) as caught:
            call(client, *xor())
        assert [v.field for v in caught.value.violations] == [field]
        assert isinstance(caught.value, ValueError)


def test_the_server_names_the_other_mistakes(quick):
    x, y = xor()
    with pytest.raises(backprop.InvalidArgument) as caught:
        quick.create_model(backprop.ModelSpec(0, [backprop.Layer(0), backprop.Layer(2)]))
    assert {v.field for v in caught.value.violations} == {
        "spec.input_size", "spec.layers[0].units"}
    model = quick.create_model(spec())
    with pytest.raises(backprop.InvalidArgument):
        quick.step(model, x, y + 1)
    with pytest.raises(backprop.AlreadyExists):
        quick.create_model(spec(), model.name)
    with pytest.raises(backprop.FailedPrecondition) as refused:
        quick.stop_training(model)
    assert refused.value.reason == "NO_RUN"


def test_health_status_and_projects(quick):
    assert quick.health() and quick.health("backprop.v1.TrainingService")
    with pytest.raises(backprop.NotFound):
        quick.health("nothing")
    status = quick.server_status(full=True)
    assert status.version and any(f.name == "--data-dir" and f.given for f in status.flags)
    assert quick.get_project("default").name == "projects/default"
    assert "projects/default" in [p.name for p in quick.list_projects()]


def test_the_version_is_that_of_the_project():
    from conftest import ROOT

    assert f"VERSION {backprop.__version__} " in (ROOT / "CMakeLists.txt").read_text()


def test_a_token_is_not_sent_in_clear_text(tmp_path, monkeypatch):
    for address in ("example.com:1", "10.0.0.1:1", "dns:///example.com:1", "[2001:db8::1]:1"):
        with pytest.raises(backprop.FailedPrecondition, match="clear text"):
            backprop.Client(address, token="secret")
        backprop.Client(address, token="secret", allow_clear_text=True).close()
    for address in ("localhost:1", "127.0.0.1:1", "[::1]:1", "unix:/tmp/x"):
        backprop.Client(address, token="secret").close()
    monkeypatch.setenv("BACKPROP_TOKEN", "secret")
    with pytest.raises(backprop.FailedPrecondition, match="clear text"):
        backprop.Client("example.com:1")
    with pytest.raises(backprop.Unauthenticated, match="white space"):
        backprop.Client("localhost:1", token="two words")
    empty = tmp_path / "token"
    empty.write_text("")
    client = backprop.Client("localhost:1", token_file=empty)
    with pytest.raises(backprop.FailedPrecondition, match="empty"):
        client.health()


def test_progress_of_every_kind(quick, capfd):
    x, y = xor()
    for kind in ("text", "tqdm", "rich", True):
        model = quick.create_model(spec())
        quick.train(model, x, y, iterations=200, progress=kind)
        shown = capfd.readouterr().err
        assert "completed after 200 iterations" in shown, (kind, shown)
    with pytest.raises(backprop.InvalidArgument):
        quick.train(model, x, y, iterations=1, progress="pie")


def test_a_deadline_bounds_the_call_with_its_retries(tmp_path):
    with backprop.Client(f"unix:{tmp_path}/nothing",
                         retry=backprop.Retry(max_attempts=10**6)) as client:
        start = time.monotonic()
        with pytest.raises((backprop.Unavailable, backprop.DeadlineExceeded)):
            client.health(timeout=0.5)
        assert 0.05 < time.monotonic() - start < 2


def test_generated_code_does_not_collide_with_googleapis():
    pytest.importorskip("google.rpc.status_pb2", reason="googleapis-common-protos")
    import backprop.v1.training_service_pb2_grpc as raw

    assert os.path.basename(raw.__file__) == "training_service_pb2_grpc.py"
